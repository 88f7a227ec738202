//! The machine can have guests; without that, nothing else here could be believed.

use std::fs;

#[test]
fn the_processor_can_have_guests_with_page_tables_of_their_own() {
    assert!(fs::exists("/dev/kvm").expect("`/dev` can be looked at"), "there is no `/dev/kvm`");
    let nested = ["amd", "intel"].map(|vendor| format!("/sys/module/kvm_{vendor}/parameters"));
    let tables = nested.iter().flat_map(|module| ["npt", "ept"].map(|p| format!("{module}/{p}")));
    let answers: Vec<String> = tables.filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert_eq!(answers.iter().map(|answer| answer.trim()).collect::<Vec<_>>(), ["Y"]);
}
