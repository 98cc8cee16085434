//! Seeds: the controller's own loop in many worlds, every invariant checked after every step.

mod common;

macro_rules! parts {
    ($($name:ident = $part:literal),*) => { $(
        #[test]
        fn $name() {
            common::seeds($part, 8);
        }
    )* };
}

parts!(
    part_0 = 0,
    part_1 = 1,
    part_2 = 2,
    part_3 = 3,
    part_4 = 4,
    part_5 = 5,
    part_6 = 6,
    part_7 = 7
);

/// A simulation that is not deterministic could not be repeated: the same seed must take the same steps.
#[test]
fn the_same_seed_takes_the_same_steps() {
    for seed in 0..20 {
        let mut options = pipekeeper_test_support::sim::Options::draw(seed);
        options.trace = true;
        let (first, second) = (common::run(&options), common::run(&options));
        assert_eq!(first.lines, second.lines, "seed {seed}");
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
    }
}
