//! What is wrong with a flow is found when it is built.

use super::*;

struct Bare(&'static str, &'static [&'static str]);

#[async_trait]
impl Step for Bare {
    fn name(&self) -> &'static str {
        self.0
    }

    fn needs(&self) -> &'static [&'static str] {
        self.1
    }

    async fn run(&self, _: &StepContext<'_>) -> Result<Outcome, Fault> {
        Ok(Outcome::none())
    }
}

#[test]
fn a_step_needs_what_comes_before_it() {
    let build = |inputs: &[&str]| Flow::builder("f").step(Bare("a", &[ZONE])).build(inputs);
    assert!(build(&[ZONE]).is_ok());
    let error = build(&[REQUEST]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "flow f: step `a` needs cairn.compute.v1alpha1.Zone, which neither an input nor a step \
         before it provides"
    );
}

#[test]
fn names_are_distinct_and_fit_the_log() {
    let twice = Flow::builder("f").step(Bare("a", &[])).step(Bare("a", &[]));
    assert!(matches!(twice.build(&[]), Err(FlowError::Duplicate { .. })));
    let comma = Flow::builder("f").step(Bare("a,b", &[]));
    assert!(matches!(comma.build(&[]), Err(FlowError::Name { .. })));
}

#[test]
fn the_point_of_no_return_is_a_step() {
    let flow = Flow::builder("f").step(Bare("a", &[]));
    assert!(matches!(
        flow.forward_after("b"),
        Err(FlowError::NoStep { .. })
    ));
}

#[test]
fn pauses_grow_to_a_bound() {
    let retry = Retry::default();
    let pauses: Vec<_> = [1, 2, 3, 40]
        .map(|failures| retry.pause(failures).as_millis())
        .into();
    assert_eq!(pauses, [200, 400, 800, 10_000]);
}
