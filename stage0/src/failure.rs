//! What went wrong with a pod behind the `exec`, as its records tell it.

use pod_abi::Report;
use pod_abi::exit::Ended;
use pod_abi::status::PodStatus;

use crate::logs::{self, Selection};
use crate::pods::Pod;
use crate::ui::{self, Format};

/// How many lines of an app's log are shown beside an error.
const LOG_LINES: usize = 10;

/// Returns the error that ended a pod, if one other than an app's own status did, or one that
/// explains that status.
pub(crate) fn recorded(status: &PodStatus) -> Option<&Report> {
    let of_app = |app: &'_ pod_abi::status::AppStatus| {
        let ended = matches!(app.exit, Some(Ended::NotStarted { .. } | Ended::Exited { .. }));
        ended && app.error.is_some()
    };
    let app = status.apps.iter().find(|app| of_app(app)).and_then(|app| app.error.as_ref());
    status.error.as_ref().or(app)
}

/// Prints the error of a pod that never got ready, and the last lines its apps have written.
/// Tells whether there was something to print.
pub(crate) fn show(pod: &Pod, format: Format) -> bool {
    let Some(status) = pod.status().ok().flatten() else { return false };
    let told = tell(&status, format);
    if told && format == Format::Table && status.ready.is_none() {
        show_logs(pod, &status);
    }
    told
}

/// Prints the error of a pod and nothing its apps have written, for those who see that anyway. Tells
/// whether there was one.
pub(crate) fn tell(status: &PodStatus, format: Format) -> bool {
    let report = recorded(status);
    if let Some(report) = report {
        ui::report(report, format);
    }
    report.is_some()
}

fn show_logs(pod: &Pod, status: &PodStatus) {
    for app in &status.apps {
        let lines = logs::read(pod, std::slice::from_ref(&app.name), Selection::last(LOG_LINES));
        for line in lines.unwrap_or_default() {
            ui::note(&format!("{} | {}", app.name, String::from_utf8_lossy(&line.text)));
        }
    }
}
