//! Operators copy the examples, so each must load without a warning.

use corvoy_config::{Problems, Source, load, render};

#[test]
fn every_example_loads_without_a_warning() {
    let mut seen = 0;
    for entry in std::fs::read_dir("examples").unwrap() {
        let source = Source::file(&entry.unwrap().path()).unwrap();
        let mut problems = Problems::default();
        let loaded = load(&source, &mut problems);
        assert!(loaded.is_some() && problems.is_empty(), "{}", render(&problems, &source));
        seen += 1;
    }
    assert_eq!(seen, 9);
}
