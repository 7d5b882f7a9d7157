//! A stack of things to take back if what follows fails.

use crate::Error;
use std::fmt;

type Step<'a> = Box<dyn FnOnce() -> Result<(), Error> + 'a>;

/// Undo steps, run last first when dropped, unless [`Undo::commit`] is called. Failures do not stop the rest.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    /// An empty stack.
    pub fn new() -> Self {
        Undo { steps: Vec::new() }
    }

    /// Adds a step, named for error reports.
    pub fn push(&mut self, name: &'static str, step: impl FnOnce() -> Result<(), Error> + 'a) {
        self.steps.push((name, Box::new(step)));
    }

    /// Everything went well: nothing is taken back.
    pub fn commit(mut self) {
        self.steps.clear();
    }

    /// Takes everything back now, last first, and returns what failed.
    pub fn rollback(mut self) -> Vec<Error> {
        self.run()
    }

    fn run(&mut self) -> Vec<Error> {
        let mut failures = Vec::new();
        while let Some((name, step)) = self.steps.pop() {
            if let Err(e) = step() {
                failures.push(e.during("undo", name));
            }
        }
        failures
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // Whoever cares about failures calls rollback; a drop happens on the way out of another error.
        drop(self.run());
    }
}

impl fmt::Debug for Undo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(n, _)| n)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use std::cell::RefCell;

    #[test]
    fn steps_run_last_first_past_failures() {
        let seen = RefCell::new(vec![]);
        let mut u = Undo::new();
        u.push("a", || {
            seen.borrow_mut().push('a');
            Ok(())
        });
        u.push("b", || Err(Error::new(Kind::System, "b", "")));
        u.push("c", || {
            seen.borrow_mut().push('c');
            Ok(())
        });
        assert_eq!(u.rollback().len(), 1);
        assert_eq!(*seen.borrow(), ['c', 'a']);
    }

    #[test]
    fn commit_takes_nothing_back() {
        let ran = RefCell::new(false);
        let mut u = Undo::new();
        u.push("a", || {
            *ran.borrow_mut() = true;
            Ok(())
        });
        u.commit();
        assert!(!*ran.borrow());
    }
}
