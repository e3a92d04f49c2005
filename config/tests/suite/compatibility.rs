//! The page that says what Corvoy makes of each field is written from the table that the loader uses.

use std::fs;

const PAGE: &str = "../docs/COMPATIBILITY.md";

#[test]
fn the_page_is_up_to_date() {
    let page = corvoy_config::compatibility_page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page, "{PAGE} is old: run this test with BLESS=1");
}
