//! What is wrong with a lock file: every problem, the first twenty in words.

use std::fmt;

use crate::SafeText;

/// Most problems that are described; the others are counted.
const DESCRIBED: usize = 20;

/// Everything that is wrong with a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockError {
    problems: Vec<LockProblem>,
    total: usize,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockProblem {
    place: SafeText,
    index: Option<usize>,
    field: Option<SafeText>,
    reason: SafeText,
}

impl LockProblem {
    /// The entry, counted from 0; `None` for a problem of the whole file.
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The key concerned, where there is one.
    pub fn field(&self) -> Option<&str> {
        self.field.as_ref().map(SafeText::as_str)
    }

    /// What is wrong.
    pub fn reason(&self) -> &str {
        self.reason.as_str()
    }
}

impl fmt::Display for LockProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "`{}`: ", self.place)?;
        }
        f.write_str(self.reason.as_str())
    }
}

impl LockError {
    /// The problems in file order, at most twenty.
    pub fn problems(&self) -> &[LockProblem] {
        &self.problems
    }

    /// How many problems there are in all.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        match self.total - self.problems.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for LockError {}

/// Problems while they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<LockProblem>,
    total: usize,
}

impl Problems {
    /// Notes a problem at an entry (in a list called `list`), at a key, or of the whole file.
    pub(super) fn add(&mut self, list: &str, index: Option<usize>, field: Option<&str>, reason: &str) {
        self.total = self.total.saturating_add(1);
        if self.found.len() >= DESCRIBED {
            return;
        }
        let mut place = index.map(|index| format!("{list}[{index}]")).unwrap_or_default();
        if let Some(field) = field {
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(field);
        }
        self.found.push(LockProblem {
            place: SafeText::excerpt(&place, 96),
            index,
            field: field.map(|field| SafeText::excerpt(field, 64)),
            reason: SafeText::new(reason),
        });
    }

    /// How many were found.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// `Ok` when nothing was found.
    pub(super) fn into_result(self) -> Result<(), LockError> {
        if self.total == 0 {
            return Ok(());
        }
        Err(LockError { problems: self.found, total: self.total })
    }
}
