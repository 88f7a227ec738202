//! Readiness, reapers, and apps that come and go.

use pod_abi::app::Stop;
use pod_abi::exit::Ended;
use pod_abi::inner::{FromInit, Target, ToInit};
use pod_abi::manifest::ExitPolicy;
use pod_abi::name::AppName;
use pod_abi::readiness::Readiness;

use crate::pod::{Pod, shell};
use crate::{ended, run};

fn ready(news: &FromInit) -> Option<String> {
    match news {
        FromInit::AppReady { app } => Some(app.to_string()),
        FromInit::AppEnded { .. } => panic!("{news:?}"),
        _ => None,
    }
}

fn exec_ended(news: &FromInit) -> Option<Ended> {
    match news {
        FromInit::AppReady { .. } | FromInit::PodReady => panic!("ready too early"),
        FromInit::ExecEnded { exit, .. } => Some(*exit),
        _ => None,
    }
}

pub(crate) fn an_app_is_ready_when_a_process_of_its_pod_says_so() {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let mut first = shell("a", "echo $NOTIFY_SOCKET; echo end; exec sleep 1000");
    first.readiness = Readiness::Notify;
    let mut process = first.process.clone();
    process.args[2] = "echo $NOTIFY_SOCKET".to_owned();
    let mut second = shell("b", "exec sleep 1000");
    second.after = vec![AppName::parse("a").unwrap()];
    let output = pod.add(first);
    let _other = pod.add(second);
    pod.tell(&ToInit::Run);
    let address = output.wait_for("end");
    let address = address.lines().next().unwrap().to_owned();
    pod.say_from_outside(&address, "READY=1");
    pod.say_from_inside(&address, "STATUS=not yet");
    let output = pod.exec(1, "a", process);
    assert_eq!(pod.until(exec_ended), Ended::Exited { code: 0 });
    assert_eq!(output.read().trim(), address);
    pod.say_from_inside(&address, "STATUS=up\nREADY=1");
    assert_eq!(pod.until(ready), "a");
    assert_eq!(pod.until(ready), "b");
    pod.until(|news| matches!(news, FromInit::PodReady).then_some(()));
}

pub(crate) fn a_probe_runs_in_the_app_until_it_succeeds() {
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let mut app = shell("a", "echo up; exec sleep 1000");
    app.readiness = "exec:ls /tmp/ready".parse().unwrap();
    let mut process = app.process.clone();
    process.args[2] = "id".to_owned();
    let output = pod.add(app);
    pod.tell(&ToInit::Run);
    output.wait_for("up");
    pod.exec(1, "a", process.clone());
    pod.until(exec_ended);
    process.args[2] = "touch /tmp/ready".to_owned();
    pod.exec(2, "a", process);
    assert_eq!(pod.until(ready), "a");
    pod.tell(&ToInit::Shutdown { grace_ms: Some(0) });
    pod.until(|news| matches!(news, FromInit::PodEnded { .. }).then_some(()));
    assert_eq!(output.read(), "", "what a probe says is nobody's");
}

pub(crate) fn a_server_is_ready_when_it_answers_well() {
    for (page, is_ready) in [("/plain", true), ("/none", false)] {
        let mut pod = Pod::new(ExitPolicy::AnyFailure);
        let mut server = shell("web", "exec busybox httpd -f -p 127.0.0.1:80 -h /etc");
        server.readiness = format!("http:80{page}").parse().unwrap();
        let mut port = shell("port", "exec sleep 1000");
        port.readiness = "tcp:80".parse().unwrap();
        let _outputs = (pod.add(server), pod.add(port));
        pod.tell(&ToInit::Run);
        let mut names = vec![pod.until(ready)];
        if is_ready {
            names.push(pod.until(ready));
        }
        names.sort();
        let expected: &[&str] = if is_ready { &["port", "web"] } else { &["port"] };
        assert_eq!(names, expected);
    }
}

pub(crate) fn a_reaper_is_process_1_and_the_app_its_child() {
    let mut spec = shell(
        "a",
        "echo $$; (sh -c 'echo orphan; : > /heard' &); until [ -e /heard ]; do :; done; tr '\\0' ' ' < /proc/1/cmdline; echo; \
         grep -E '^(CapPrm|NoNewPrivs)' /proc/1/status; echo fds: $(ls /proc/1/fd 2>&1); \
         ls -l /proc/1/exe 2>&1 | grep -c denied; exit 7",
    );
    spec.reaper = true;
    let (output, exit, code) = run(spec.clone());
    assert_eq!((exit, code), (Ended::Exited { code: 7 }, 7), "{output}");
    assert!(output.starts_with("2\norphan\nstage2-init \n"), "{output}");
    assert!(output.contains("CapPrm:\t0000000000000020\nNoNewPrivs:\t1\n"), "{output}");
    assert!(output.contains("fds:\n"), "{output}");
    assert!(output.ends_with("1\n"), "{output}");

    spec.process.args[2] = "/no/such/program".to_owned();
    spec.process.args.drain(..2);
    let (_, exit, _) = run(spec.clone());
    assert_eq!(exit, Ended::NotStarted { code: 127 });

    let script = "trap 'echo usr1' USR1; echo up; while :; do sleep 0.01; done";
    spec.process.args = ["sh", "-c", script].map(str::to_owned).to_vec();
    spec.process.user.uid = 1000;
    spec.stop = Stop { signal: 15, grace_ms: 3_600_000 };
    let mut pod = Pod::new(ExitPolicy::AnyFailure);
    let mut process = spec.process.clone();
    let name = spec.name.clone();
    let output = pod.add(spec);
    pod.tell(&ToInit::Run);
    output.wait_for("up");
    pod.tell(&ToInit::Signal { target: Target::App(name.clone()), signal: 10 });
    output.wait_for("usr1");
    process.args[2] = "cat /proc/2/comm".to_owned();
    assert_eq!(pod.exec(1, "a", process).read(), "sh\n");
    pod.tell(&ToInit::StopApp { app: name, grace_ms: None });
    let end = pod.until(|news| ended(news).map(|(_, exit)| exit));
    assert_eq!(end, Ended::Exited { code: 143 });
}

pub(crate) fn an_app_that_was_removed_can_come_back() {
    let mut pod = Pod::new(ExitPolicy::Never);
    pod.tell(&ToInit::Run);
    pod.until(|news| matches!(news, FromInit::PodReady).then_some(()));
    let descriptors = pod.descriptors();
    let name = AppName::parse("a").unwrap();
    for round in 0..3 {
        let mut app = shell("a", "exit 3");
        app.readiness = Readiness::Notify;
        let output = pod.add(app);
        pod.tell(&ToInit::StartApp { app: name.clone() });
        let end = pod.until(|news| ended(news).map(|(_, exit)| exit));
        assert_eq!(end, Ended::Exited { code: 3 }, "{round}");
        pod.tell(&ToInit::RemoveApp { app: name.clone() });
        pod.until(|news| matches!(news, FromInit::AppRemoved { .. }).then_some(()));
        assert_eq!(output.read(), "");
    }
    assert_eq!(pod.descriptors(), descriptors, "something of the app is still held");
    pod.tell(&ToInit::Shutdown { grace_ms: None });
    let code =
        pod.until(|news| if let FromInit::PodEnded { code } = news { Some(*code) } else { None });
    assert_eq!(code, 0);
}
