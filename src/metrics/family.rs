//! Metrics by label, all registered when they are made.
//!
//! Deliberately doesn't know: which metrics there are.

use std::{marker::PhantomData, ops::Index};

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};

use super::labels::Label;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Something that registers itself, with every label value that it has.
pub(super) trait Register: Sized {
    fn describe(recorder: &dyn Recorder, name: &'static str, help: String);
    fn register(
        recorder: &dyn Recorder,
        name: &'static str,
        labels: &[(&'static str, &'static str)],
    ) -> Self;
}

macro_rules! register {
    ($($type:ident $describe:ident $register:ident;)+) => {$(
        impl Register for $type {
            fn describe(recorder: &dyn Recorder, name: &'static str, help: String) {
                recorder.$describe(name.into(), None, help.into());
            }
            fn register(
                recorder: &dyn Recorder,
                name: &'static str,
                labels: &[(&'static str, &'static str)],
            ) -> Self {
                recorder.$register(&Key::from_parts(name, labels), &METADATA)
            }
        }
    )+};
}

register! {
    Counter describe_counter register_counter;
    Gauge describe_gauge register_gauge;
    Histogram describe_histogram register_histogram;
}

/// One metric for each value of a label: `family[value]`.
pub struct Family<L, M> {
    members: Vec<M>,
    label: PhantomData<L>,
}

impl<L: Label, M> Index<L> for Family<L, M> {
    type Output = M;
    fn index(&self, value: L) -> &M {
        let position = L::VALUES.iter().position(|known| *known == value);
        &self.members[position.expect("a label's values are all of its type's")]
    }
}

impl<L: Label, M: Register> Register for Family<L, M> {
    fn describe(recorder: &dyn Recorder, name: &'static str, help: String) {
        M::describe(recorder, name, help);
    }
    fn register(
        recorder: &dyn Recorder,
        name: &'static str,
        labels: &[(&'static str, &'static str)],
    ) -> Self {
        let member = |value: &L| {
            let labels = [labels, &[(L::NAME, value.value())]].concat();
            M::register(recorder, name, &labels)
        };
        Self { members: L::VALUES.iter().map(member).collect(), label: PhantomData }
    }
}
