//! What is told beside a login, or instead of one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use greentic_dist_net::{CredentialAnswer, Login};

/// Most texts remembered as told.
const TOLD: usize = 256;

/// What came up while places were asked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    warnings: Vec<String>,
    remarks: Vec<String>,
}

/// Warnings that were told already: a broken file is told once, not for every repository.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashSet<String>>);

impl Notes {
    /// Something a person should know at once.
    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Something that matters only when a login is missing in the end.
    pub(super) fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }

    /// Everything that came up.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn into_texts(self) -> Vec<String> {
        [self.warnings, self.remarks].concat()
    }

    /// The answer to the question, with what was not told before.
    pub(super) fn into_answer(self, login: Option<Login>, told: &Told) -> CredentialAnswer {
        let mut told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = CredentialAnswer::from(login);
        for warning in self.warnings {
            if told.len() < TOLD && told.insert(warning.clone()) {
                answer = answer.with_warning(&warning);
            }
        }
        self.remarks.iter().fold(answer, |answer, remark| answer.with_remark(remark))
    }
}
