//! Sources asked one after another.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greentic_distributor_client::{
    ChainedDistributorSource, ComponentId, DistributorError, DistributorSource, PackId, Version,
};

type Answer = fn() -> Result<Vec<u8>, DistributorError>;

/// A source that always says the same, and counts how often it was asked.
struct Always {
    answer: Answer,
    asked: Arc<AtomicUsize>,
}

impl DistributorSource for Always {
    fn fetch_pack(&self, _: &PackId, _: &Version) -> Result<Vec<u8>, DistributorError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.answer)()
    }

    fn fetch_component(&self, _: &ComponentId, _: &Version) -> Result<Vec<u8>, DistributorError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        (self.answer)()
    }
}

/// The result of a chain of these answers, and how often each of them was asked.
fn ask(answers: &[Answer]) -> (Result<Vec<u8>, DistributorError>, Vec<usize>) {
    let counts: Vec<Arc<AtomicUsize>> = answers.iter().map(|_| Arc::default()).collect();
    let sources = answers.iter().zip(&counts).map(|(answer, asked)| {
        Box::new(Always { answer: *answer, asked: Arc::clone(asked) }) as Box<dyn DistributorSource>
    });
    let chain = ChainedDistributorSource::new(sources.collect());
    let pack = chain.fetch_pack(&PackId::new("kit").unwrap(), &Version::new(1, 0, 0));
    let counted = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let component = chain.fetch_component(&ComponentId::new("part").unwrap(), &Version::new(1, 0, 0));
    assert_eq!(format!("{pack:?}"), format!("{component:?}"), "packs and components follow one rule");
    (pack, counted)
}

fn missing() -> Result<Vec<u8>, DistributorError> {
    Err(DistributorError::NotFound)
}

#[test]
fn the_first_source_that_has_it_answers_and_later_ones_are_not_asked() {
    let (answer, asked) = ask(&[missing, || Ok(vec![1]), || Ok(vec![2])]);
    assert_eq!((answer.unwrap(), asked), (vec![1], vec![1, 1, 0]));
}

#[test]
fn d21_a_broken_source_is_noticed_instead_of_skipped() {
    let broken: Answer = || Err(DistributorError::Io(io::Error::other("disk on fire")));
    let (answer, asked) = ask(&[missing, broken, || Ok(vec![2])]);
    assert!(matches!(answer, Err(DistributorError::Io(_))), "{answer:?}");
    assert_eq!(asked, vec![1, 1, 0]);
}

#[test]
fn a_chain_nobody_of_which_has_it_says_not_found() {
    assert!(matches!(ask(&[missing, missing]).0, Err(DistributorError::NotFound)));
    assert!(matches!(ask(&[]).0, Err(DistributorError::NotFound)));
}
