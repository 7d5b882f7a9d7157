//! Walks the tree with a value.

use super::parse::{Node, Operand, Pipeline, Store};
use super::{functions, print};
use serde_json::Value;

/// Renders nodes for one value.
pub(super) fn render(nodes: &[Node], root: &Value, labels: &dyn Fn(&str) -> String) -> Result<String, String> {
    let mut run = Run { out: String::new(), variables: vec![(String::new(), root.clone())], root, labels };
    run.nodes(nodes, root)?;
    Ok(run.out)
}

/// Whether a list of nodes ran through.
#[derive(PartialEq)]
enum Flow {
    Through,
    Break,
    Continue,
}

struct Run<'a> {
    out: String,
    /// Innermost last; the empty name is `$`.
    variables: Vec<(String, Value)>,
    root: &'a Value,
    labels: &'a dyn Fn(&str) -> String,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.store.is_none() {
                        self.out.push_str(&print::value(&value));
                    }
                }
                Node::If(branches, otherwise) => {
                    let flow = self.scoped(|run| run.branches(branches, otherwise, dot, false))?;
                    if flow != Flow::Through {
                        return Ok(flow);
                    }
                }
                Node::With(branches, otherwise) => {
                    let flow = self.scoped(|run| run.branches(branches, otherwise, dot, true))?;
                    if flow != Flow::Through {
                        return Ok(flow);
                    }
                }
                Node::Range { variables, over, body, otherwise } => {
                    let over = self.pipeline(over, dot)?;
                    let flow = self.range(variables, &over, body, otherwise, dot)?;
                    if flow != Flow::Through {
                        return Ok(flow);
                    }
                }
            }
        }
        Ok(Flow::Through)
    }

    fn scoped<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let depth = self.variables.len();
        let result = f(self);
        self.variables.truncate(depth);
        result
    }

    fn branches(
        &mut self,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
        rebind: bool,
    ) -> Result<Flow, String> {
        for (condition, body) in branches {
            let value = self.pipeline(condition, dot)?;
            if functions::truth(&value) {
                return self.nodes(body, if rebind { &value } else { dot });
            }
        }
        self.nodes(otherwise, dot)
    }

    fn range(
        &mut self,
        variables: &[String],
        over: &Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let elements = elements(over)?;
        if elements.is_empty() {
            return self.scoped(|run| run.nodes(otherwise, dot));
        }
        for (key, element) in elements {
            let flow = self.scoped(|run| {
                match variables {
                    [element_name] => run.variables.push((element_name.clone(), element.clone())),
                    [key_name, element_name] => {
                        run.variables.push((key_name.clone(), key));
                        run.variables.push((element_name.clone(), element.clone()));
                    }
                    _ => {}
                }
                run.nodes(body, &element)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Through)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Null);
        match &pipeline.store {
            None => {}
            Some(Store::Declare(name)) => self.variables.push((name.clone(), value.clone())),
            Some(Store::Assign(name)) => {
                let slot = self.variables.iter_mut().rev().find(|(n, _)| n == name);
                slot.ok_or_else(|| format!("undefined variable ${name}"))?.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn command(&mut self, words: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let (first, rest) = words.split_first().ok_or("missing value for an action")?;
        if let Operand::Function(name) = first {
            if matches!(name.as_str(), "and" | "or") {
                return self.decide(name == "or", rest, dot, piped);
            }
            let mut arguments = rest.iter().map(|w| self.operand(w, dot)).collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            return functions::call(name, &arguments);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        let mut arguments = rest.iter().map(|w| self.operand(w, dot)).collect::<Result<Vec<_>, _>>()?;
        arguments.extend(piped);
        self.method(first, dot, &arguments)
    }

    /// The one method that docker's rows have: `.Label "NAME"`.
    fn method(&self, word: &Operand, dot: &Value, arguments: &[Value]) -> Result<Value, String> {
        let Operand::Fields(base, fields) = word else {
            return Err("a value that is no function is given arguments".into());
        };
        let at_root = match base.as_ref() {
            Operand::Dot => std::ptr::eq(dot, self.root) || dot == self.root,
            Operand::Variable(name) => name.is_empty(),
            _ => false,
        };
        match (at_root, fields.as_slice(), arguments) {
            (true, [field], [Value::String(name)]) if field == "Label" => Ok(Value::String((self.labels)(name))),
            _ => Err(format!("{} is not a function and takes no arguments", fields.join("."))),
        }
    }

    /// `and` and `or` evaluate no further than needed.
    fn decide(&mut self, stop_at: bool, words: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, String> {
        let mut value = None;
        for word in words {
            let v = self.operand(word, dot)?;
            if functions::truth(&v) == stop_at {
                return Ok(v);
            }
            value = Some(v);
        }
        piped.or(value).ok_or_else(|| "and and or need an argument".into())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => functions::call(name, &[]),
            Operand::Parens(pipeline) => self.pipeline(pipeline, dot),
            Operand::Variable(name) => self.variable(name).cloned(),
            Operand::Fields(base, fields) => match base.as_ref() {
                // Without a copy of the whole document for each field.
                Operand::Dot => fields_of(dot, fields),
                Operand::Variable(name) => fields_of(self.variable(name)?, fields),
                other => fields_of(&self.operand(other, dot)?, fields),
            },
        }
    }

    fn variable(&self, name: &str) -> Result<&Value, String> {
        let found = self.variables.iter().rev().find(|(n, _)| n == name);
        found.map(|(_, v)| v).ok_or_else(|| format!("undefined variable ${name}"))
    }
}

fn fields_of(value: &Value, names: &[String]) -> Result<Value, String> {
    let mut at = value;
    for name in names {
        at = match at {
            Value::Object(map) => match map.get(name) {
                Some(inner) => inner,
                None if is_struct(map) => {
                    let known: Vec<&str> = map.keys().map(String::as_str).collect();
                    return Err(format!("no field {name}; there are {}", known.join(", ")));
                }
                None => return Ok(Value::Null),
            },
            Value::Null => return Ok(Value::Null),
            other => return Err(format!("cannot take field {name} of {}", print::kind(other))),
        };
    }
    Ok(at.clone())
}

fn is_struct(map: &serde_json::Map<String, Value>) -> bool {
    !map.is_empty() && map.keys().all(|k| k.starts_with(char::is_uppercase))
}

/// What `range` walks over, with keys.
fn elements(value: &Value) -> Result<Vec<(Value, Value)>, String> {
    Ok(match value {
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.into(), v.clone())).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone().into(), v.clone())).collect(),
        Value::Null => Vec::new(),
        Value::Number(n) if n.is_u64() => (0..n.as_u64().unwrap_or(0)).map(|i| (i.into(), i.into())).collect(),
        other => return Err(format!("range cannot walk over {}", print::kind(other))),
    })
}
