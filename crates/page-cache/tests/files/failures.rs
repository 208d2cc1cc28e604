//! Every operation with room for 0, 1, 2 ... pages and none after: it fails as a whole or as far as it says, and nothing leaks.

use address_space::{Access, CommitRules, FileId, MmError, Overcommit, Process, Reserve};
use mmkit_page_cache::{FileCall, FileKind, Files, Seals};

use crate::{Call, PAGE, free_or_slab, objects};

/// Far enough apart that each page takes nodes of its own.
const FAR: [u64; 4] = [0, 70, 5000, 300_000];

fn touch_far(call: &Call<'_, '_>, file: FileId) -> Result<(), MmError> {
    for index in FAR {
        let before = call.stat(file)?.nr_pages;
        match call.page(file, index, Access::Write) {
            Ok(page) => call.put_page(page),
            Err(error) => {
                assert_eq!(call.stat(file)?.nr_pages, before, "a page that could not be made is not there");
                return Err(error);
            }
        }
    }
    Ok(())
}

/// All operations that allocate, on one file of each kind.
fn run(call: &Call<'_, '_>) -> Result<(), MmError> {
    let kinds = [FileKind::Regular, FileKind::Shmem(Reserve::OnUse), FileKind::Shmem(Reserve::Whole)];
    for kind in kinds {
        let file = call.create(kind, 400_000 * PAGE)?;
        let result = touch_far(call, file).and_then(|()| {
            call.set_name(file, b"name")?;
            let written = call.write(file, 9 * PAGE - 5, &[3; 9000])?;
            let mut bytes = vec![0; written];
            assert_eq!(call.read(file, 9 * PAGE - 5, &mut bytes), Ok(written));
            assert!(bytes.iter().all(|&byte| byte == 3));
            if written == 9000 { Ok(()) } else { Err(MmError::NoMemory) }
        });
        call.check_invariants(file).unwrap();
        call.put(file)?;
        result?;
    }
    let memfd = call.create_memfd(b"m", Seals::empty())?;
    let written = call.write(memfd, 0, b"x");
    call.put(memfd)?;
    written.map(|_| ())
}

#[test]
fn whichever_allocation_fails_nothing_leaks() {
    let mut failures = 0;
    for room in 0.. {
        let (objects, cpu) = objects(2048);
        let (commit, process) = (Overcommit::new(CommitRules::for_ram(1 << 30)), Process::default());
        let before = free_or_slab(&objects, &cpu);
        objects.pages().arm_faults(room, u64::MAX);
        let result = Files::new(&objects, &cpu).and_then(|files| {
            let call = FileCall { files: &files, cpu: &cpu, commit: &commit, process: &process, total_vm: 0 };
            let result = run(&call);
            objects.pages().arm_faults(u64::MAX, 0);
            assert_eq!(run(&call), Ok(()), "with memory again everything works");
            result
        });
        objects.pages().arm_faults(u64::MAX, 0);
        assert_eq!(free_or_slab(&objects, &cpu), before, "with room for {room} pages");
        assert_eq!(commit.committed(), 0, "with room for {room} pages");
        match result {
            Ok(()) => break,
            Err(error) => assert_eq!(error, MmError::NoMemory),
        }
        failures += 1;
    }
    assert!(failures > 20, "each page and most nodes were refused once, not {failures}");
}
