//! The recorded processes, read whole; and lines that no trace has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use units::VirtAddr;

use super::*;

const NAMES: [&str; 4] = ["hello", "prog", "gcc", "bash"];

fn recording(name: &str) -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../data/vm/{name}.vmtrace.zst"));
    Recording::at(&path).unwrap()
}

fn events(name: &str) -> Vec<Event> {
    let mut reader = recording(name).events().unwrap();
    std::iter::from_fn(|| reader.next_event().unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn read(lines: &str) -> Result<Vec<Event>, InputError> {
    let text = format!("# vmtrace 1\n# t0_mono_ns 1000\n# missed_pages 0 missed_events 2\n{lines}");
    let mut reader = TraceReader::new(Path::new("test"), Box::new(Cursor::new(text.into_bytes())))?;
    assert_eq!(reader.header(), TraceHeader { start_mono_ns: 1000, missed_events: 2 });
    let mut events = Vec::new();
    while let Some(event) = reader.next_event()? {
        events.push(event);
    }
    Ok(events)
}

/// Reads one line and returns its action.
fn action(line: &str) -> Action {
    read(&format!("{line}\n")).unwrap().remove(0).action
}

#[test]
fn every_recorded_trace_is_understood_to_its_end() {
    let counts = NAMES.map(|name| events(name).len());
    // Lines of the traces without their three header lines.
    assert_eq!(counts, [178, 1862, 11_392, 9_558]);
}

#[test]
fn no_recorded_call_is_unknown() {
    for name in NAMES {
        for event in events(name) {
            if let Action::Enter(Call::Other { name, .. }) | Action::Return { call: CallName::Other(name), .. } =
                event.action
            {
                panic!("{name} is not in the table");
            }
        }
    }
}

#[test]
fn a_call_ends_before_its_task_begins_another() {
    for name in NAMES {
        let mut inside: BTreeMap<TaskId, CallName> = BTreeMap::new();
        for event in events(name) {
            match event.action {
                Action::Enter(call) => assert_eq!(inside.insert(event.task, call.name()), None, "{name}"),
                Action::Return { call, result, .. } => {
                    // A new task's first event is the end of a call that its parent began.
                    let is_child = result == CallResult::Value(0) && !inside.contains_key(&event.task);
                    assert!(is_child || inside.remove(&event.task) == Some(call), "{name}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_task_is_made_before_it_acts_and_exits_once() {
    for name in NAMES {
        let mut alive = BTreeSet::from([TaskId(1)]);
        let mut exited = BTreeSet::new();
        for event in events(name) {
            assert!(alive.contains(&event.task), "{name}: {event:?}");
            match event.action {
                Action::NewTask { child, .. } => assert!(alive.insert(child), "{name}: {child:?}"),
                Action::Exit => assert!(exited.insert(event.task), "{name}: {:?}", event.task),
                _ => {}
            }
        }
        assert_eq!(alive, exited, "{name}");
    }
}

#[test]
fn states_are_recorded_at_every_exec_and_exit() {
    for name in NAMES {
        let execs = events(name).iter().filter(|event| event.action == Action::Exec).count();
        let exits = events(name).iter().filter(|event| event.action == Action::Exit).count();
        let moments = recording(name).moments().unwrap();
        let at_exit = moments.iter().filter(|(_, moment)| *moment == Moment::Exit).count();
        assert_eq!((moments.len() - at_exit, at_exit), (execs, exits), "{name}");
    }
}

#[test]
fn every_recorded_state_is_read_and_its_resident_pages_are_those_of_its_areas() {
    for name in NAMES {
        let recording = recording(name);
        for (task, moment) in recording.moments().unwrap() {
            let state = recording.state(task, moment).unwrap_or_else(|error| panic!("{error}"));
            assert!(state.counts.get("minflt").is_some() && state.maps.areas().count() > 3);
            assert_eq!(state.smaps.is_some(), moment == Moment::Exit);
            let Some(smaps) = state.smaps else { continue };
            let rss: u64 = smaps.areas().filter_map(|area| area.get("Rss")).sum();
            assert_eq!(state.counts.get("VmRSS"), Some(rss), "{name} {task:?}");
        }
    }
}

#[test]
fn calls_have_their_arguments_by_name() {
    assert_eq!(
        action("> 5 1 mmap 0 2000 3 22 ffffffff 0"),
        Action::Enter(Call::Mmap { addr: 0, len: 0x2000, prot: 3, flags: 0x22, fd: 0xffff_ffff, offset: 0 })
    );
    assert_eq!(action("> 5 1 vfork"), Action::Enter(Call::Vfork {}));
    let other = Call::Other { name: "futex".into(), arguments: vec![0x10, 2] };
    assert_eq!(action("> 5 1 futex 10 2"), Action::Enter(other));
}

#[test]
fn results_are_numbers_errors_tasks_and_files() {
    let result = |line: &str| match action(line) {
        Action::Return { call, result, file } => (call, result, file),
        other => panic!("{other:?}"),
    };
    assert_eq!(result("< 1 1 brk 5555e000"), (CallName::Brk, CallResult::Value(0x5555_e000), None));
    assert_eq!(result("< 1 1 execve -12"), (CallName::Execve, CallResult::Errno(12), None));
    assert_eq!(result("< 1 1 clone t7"), (CallName::Clone, CallResult::Task(TaskId(7)), None));
    let file = MappedFile { size: 258, path: "/a b".into() };
    assert_eq!(result("< 1 1 mmap 7000 file 258 /a b"), (CallName::Mmap, CallResult::Value(0x7000), Some(file)));
}

#[test]
fn times_add_up_and_faults_say_what_they_were() {
    let events = read("U 5 1 7ff8 4000 17\nK 7 2 1000 2\nR 1 2 m3 1 1 8192\nN 1 2 t3 4100\n").unwrap();
    assert_eq!(events.iter().map(|event| event.time_ns).collect::<Vec<_>>(), [5, 12, 13, 14]);
    let Action::UserFault { addr, ip, error } = events[0].action else { panic!("{:?}", events[0]) };
    assert_eq!((addr, ip, error), (VirtAddr::new(0x7ff8), VirtAddr::new(0x4000), FaultError::new(0x17)));
    assert!(error.is_protection() && error.is_write() && error.is_user() && error.is_fetch());
    assert!(!FaultError::new(8).is_write());
    let rss = Action::RssStat { mm: MmId(3), is_current: true, member: RssMember::Anon, bytes: 8192 };
    assert_eq!(events[2].action, rss);
    assert_eq!(events[3].action, Action::NewTask { child: TaskId(3), flags: 0x4100 });
}

#[test]
fn a_wrong_line_is_named_with_what_was_expected() {
    let wrong = |line: &str| {
        let error = read(&format!("E 1 1\n{line}\n")).unwrap_err();
        assert_eq!(error.place, Place::Line(5), "{error}");
        format!("found {}, expected {}", error.found, error.expected)
    };
    assert_eq!(wrong("> 1 1 munmap 1000"), "found 1 arguments of munmap, expected the arguments that the call has");
    assert_eq!(wrong("< 1 1 mmap -0"), "found \"-0\", expected a result: a number in hex, -ERRNO, or tN for a task");
    assert_eq!(wrong("< 1 1 mmap 1000 file 3"), "found the end of the line, expected the path of a file");
    assert_eq!(wrong("U 1 x 0 0 4"), "found \"x\", expected the number of a task");
    assert_eq!(wrong("R 1 1 m1 1 9 0"), "found \"9\", expected a counter from 0 to 3");
    assert_eq!(wrong("Y 1 1"), "found \"Y\", expected an event: one of > < U K R N E Q");
    assert_eq!(wrong("Q 1 1 2"), "found \"2\", expected the end of the line");
    assert_eq!(wrong("> 1 1 mmap 0 0 0 0 0 0 7"), "found \"7\", expected the end of the line");
}

#[test]
fn other_files_are_told_by_their_first_line() {
    let open = |text: &str| TraceReader::new(Path::new("test"), Box::new(Cursor::new(text.to_owned().into_bytes())));
    assert!(open("# mmtrace 1\n").err().unwrap().expected.contains("vmtrace"));
    assert!(open("# vmtrace 1\nE 1 1\n").err().unwrap().expected.contains("t0_mono_ns"));
    assert_eq!(Recording::at(Path::new("a.trace.zst")).unwrap_err().expected, "NAME.vmtrace.zst or NAME.vmtrace");
}

#[test]
fn counts_are_names_with_numbers() {
    let parse = |text: &str| Counts::parse(Path::new("test"), text);
    let counts = parse("minflt 75\nVmRSS 1124 kB\n").unwrap();
    assert_eq!((counts.get("VmRSS"), counts.get("majflt")), (Some(1124), None));
    for bad in ["minflt", "minflt x", "VmRSS 1 MB", " 7"] {
        assert_eq!(parse(&format!("a 1\n{bad}\n")).unwrap_err().place, Place::Line(2), "{bad}");
    }
}

#[test]
fn a_state_with_overlapping_areas_is_refused() {
    let directory: PathBuf = std::env::temp_dir().join(format!("mmkit-states-{}", std::process::id()));
    let states = directory.join("x.vm");
    std::fs::create_dir_all(&states).unwrap();
    std::fs::write(states.join("t1.exit.maps"), "1000-3000 rw-p 0 0:0 0\n2000-4000 rw-p 0 0:0 0\n").unwrap();
    std::fs::write(states.join("t1.exit.counts"), "minflt 1\n").unwrap();
    let recording = Recording::at(&directory.join("x.vmtrace")).unwrap();
    let moments = recording.moments().unwrap();
    let error = recording.state(TaskId(1), Moment::Exit).unwrap_err();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(moments, BTreeSet::from([(TaskId(1), Moment::Exit)]));
    assert_eq!(error.expected, "areas in rising order");
}
