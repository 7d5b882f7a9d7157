//! From words to a tree. Functions and variables are checked here, so that a mistake shows even where no row is printed.

use super::functions;
use super::lex::{self, Glued, Piece, Token};
use serde_json::Value;

/// A node of the tree.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Copied.
    Text(String),
    /// Evaluated and printed, unless it declares or assigns.
    Action(Pipeline),
    /// The first branch whose condition is true.
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// As `If`, with dot set to the condition's value.
    With(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    /// Once for each element.
    Range {
        /// `$element` or `$index, $element`.
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// Leaves the innermost range.
    Break,
    /// Goes on with its next element.
    Continue,
}

/// What a pipeline's value is stored in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Store {
    /// `$x := …`
    Declare(String),
    /// `$x = …`
    Assign(String),
}

/// Commands, each handing its value to the next as last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) store: Option<Store>,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A word of a command.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Parens(Pipeline),
    /// Fields of a value: `.A.B`, `$x.A`, `(…).A`.
    Fields(Box<Operand>, Vec<String>),
}

/// Parses a whole template.
pub(super) fn template(text: &str) -> Result<Vec<Node>, String> {
    let pieces = lex::pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter(), variables: vec![String::new()], ranges: 0 };
    let (nodes, end) = parser.list("")?;
    match end {
        Stop::Eof => Ok(nodes),
        Stop::Closed => Err("unexpected {{end}}".into()),
        Stop::Else(_) => Err("unexpected {{else}}".into()),
    }
}

/// What closed a list of nodes.
enum Stop {
    Eof,
    Closed,
    /// With what follows `else`.
    Else(Vec<Glued>),
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    /// Names in scope; the empty one is `$` itself.
    variables: Vec<String>,
    ranges: usize,
}

impl Parser<'_> {
    fn list(&mut self, inside: &str) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(action) => lex::tokens(action)?,
            };
            let keyword = match action.first() {
                Some((Token::Ident(word), _)) => word.as_str(),
                _ => "",
            };
            match keyword {
                "end" => return Ok((nodes, Stop::Closed)),
                "else" => return Ok((nodes, Stop::Else(action[1..].to_vec()))),
                "if" | "with" => nodes.push(self.branches(keyword, &action[1..])?),
                "range" => nodes.push(self.range(&action[1..])?),
                "break" | "continue" if self.ranges == 0 => {
                    return Err(format!("{{{{{keyword}}}}} outside of {{{{range}}}}"));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => return Err(format!("{{{{{keyword}}}}} is not supported")),
                _ => nodes.push(Node::Action(self.pipeline(&action)?)),
            }
        }
        if inside.is_empty() {
            return Ok((nodes, Stop::Eof));
        }
        Err(format!("{{{{{inside}}}}} lacks its {{{{end}}}}"))
    }

    fn branches(&mut self, keyword: &str, first: &[Glued]) -> Result<Node, String> {
        let scope = self.variables.len();
        let mut branches = Vec::new();
        let mut condition = first.to_vec();
        let otherwise = loop {
            let pipeline = self.pipeline(&condition)?;
            let (body, end) = self.list(keyword)?;
            branches.push((pipeline, body));
            match end {
                Stop::Closed | Stop::Eof => break Vec::new(),
                Stop::Else(rest) if rest.is_empty() => break self.last_list(keyword)?,
                Stop::Else(rest) if matches!(&rest[0].0, Token::Ident(w) if w == keyword) => {
                    condition = rest[1..].to_vec();
                }
                Stop::Else(_) => return Err(format!("{{{{else}}}} is followed by something other than {keyword}")),
            }
        };
        self.variables.truncate(scope);
        Ok(if keyword == "if" { Node::If(branches, otherwise) } else { Node::With(branches, otherwise) })
    }

    fn last_list(&mut self, keyword: &str) -> Result<Vec<Node>, String> {
        match self.list(keyword)? {
            (nodes, Stop::Closed) => Ok(nodes),
            _ => Err("unexpected {{else}}".into()),
        }
    }

    fn range(&mut self, words: &[Glued]) -> Result<Node, String> {
        let scope = self.variables.len();
        let (variables, rest) = range_variables(words);
        let over = self.pipeline(rest)?;
        self.variables.extend(variables.iter().cloned());
        self.ranges += 1;
        let (body, end) = self.list("range")?;
        self.ranges -= 1;
        let otherwise = match end {
            Stop::Closed | Stop::Eof => Vec::new(),
            Stop::Else(rest) if rest.is_empty() => self.last_list("range")?,
            Stop::Else(_) => return Err("{{else}} of a range takes nothing".into()),
        };
        self.variables.truncate(scope);
        Ok(Node::Range { variables, over, body, otherwise })
    }

    fn pipeline(&mut self, words: &[Glued]) -> Result<Pipeline, String> {
        let (store, words) = match words {
            [(Token::Variable(name), _), (Token::Declare, _), rest @ ..] => (Some(Store::Declare(name.clone())), rest),
            [(Token::Variable(name), _), (Token::Assign, _), rest @ ..] => {
                self.known(name)?;
                (Some(Store::Assign(name.clone())), rest)
            }
            _ => (None, words),
        };
        let mut cursor = Cursor { words, at: 0 };
        let commands = self.commands(&mut cursor)?;
        if cursor.at < words.len() {
            return Err("unexpected )".into());
        }
        if let Some(Store::Declare(name)) = &store {
            self.variables.push(name.clone());
        }
        Ok(Pipeline { store, commands })
    }

    /// Commands up to the end or to a closing parenthesis, which stays.
    fn commands(&self, cursor: &mut Cursor<'_>) -> Result<Vec<Vec<Operand>>, String> {
        let mut commands = vec![Vec::new()];
        loop {
            match cursor.peek() {
                None | Some((Token::Close, _)) => break,
                Some((Token::Pipe, _)) => {
                    cursor.at += 1;
                    commands.push(Vec::new());
                }
                Some(_) => {
                    let operand = self.operand(cursor)?;
                    commands.last_mut().expect("it begins with one").push(operand);
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err("missing value for an action".into());
        }
        Ok(commands)
    }

    fn operand(&self, cursor: &mut Cursor<'_>) -> Result<Operand, String> {
        let (token, _) = cursor.next().ok_or("missing value for an action")?;
        let mut fields = Vec::new();
        let base = match token {
            Token::Dot => Operand::Dot,
            Token::Field(name) => {
                fields.push(name);
                Operand::Dot
            }
            Token::Variable(name) => {
                self.known(&name)?;
                Operand::Variable(name)
            }
            Token::Str(s) => Operand::Literal(Value::String(s)),
            Token::Number(n) => Operand::Literal(Value::Number(n)),
            Token::Ident(word) => match word.as_str() {
                "true" => Operand::Literal(Value::Bool(true)),
                "false" => Operand::Literal(Value::Bool(false)),
                "nil" => Operand::Literal(Value::Null),
                _ if functions::exists(&word) => Operand::Function(word),
                _ => {
                    return Err(format!("function {word:?} is not defined; there are {}", functions::NAMES.join(", ")));
                }
            },
            Token::Open => {
                let commands = self.commands(cursor)?;
                match cursor.next() {
                    Some((Token::Close, _)) => Operand::Parens(Pipeline { store: None, commands }),
                    _ => return Err("unclosed (".into()),
                }
            }
            Token::Comma | Token::Assign | Token::Declare | Token::Pipe | Token::Close => {
                return Err("an operator stands where a value is expected".into());
            }
        };
        while let Some((Token::Field(name), true)) = cursor.peek() {
            fields.push(name.clone());
            cursor.at += 1;
        }
        Ok(if fields.is_empty() { base } else { Operand::Fields(Box::new(base), fields) })
    }

    fn known(&self, name: &str) -> Result<(), String> {
        if self.variables.iter().any(|v| v == name) { Ok(()) } else { Err(format!("undefined variable ${name}")) }
    }
}

fn range_variables(words: &[Glued]) -> (Vec<String>, &[Glued]) {
    match words {
        [(Token::Variable(i), _), (Token::Comma, _), (Token::Variable(v), _), (Token::Declare, _), rest @ ..] => {
            (vec![i.clone(), v.clone()], rest)
        }
        [(Token::Variable(v), _), (Token::Declare, _), rest @ ..] => (vec![v.clone()], rest),
        _ => (Vec::new(), words),
    }
}

struct Cursor<'a> {
    words: &'a [Glued],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Glued> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Option<Glued> {
        let word = self.words.get(self.at).cloned();
        self.at += 1;
        word
    }
}
