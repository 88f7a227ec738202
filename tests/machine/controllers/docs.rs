//! The lines of the documents that need controllers.

use tests::document::Place;

#[test]
fn every_line_about_limits_does_what_its_document_shows() {
    let count = crate::docs::follow(Place::Qemu);
    assert!(count > 15, "only {count} lines were found");
}
