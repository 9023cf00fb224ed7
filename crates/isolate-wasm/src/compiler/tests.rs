use super::*;
use crate::engine;
use std::io::Read as _;
use std::{fs, sync::mpsc, thread};
use tempfile::TempDir;

/// What a test waits for at most.
const LONG: Duration = Duration::from_secs(60);

/// The program of `src/bin`, which cargo builds with the tests.
pub(crate) fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("tutti-compile");
    assert!(program.exists(), "{} is missing: build it with the whole crate", program.display());
    program
}

fn limits() -> Limits {
    Limits { memory: 1 << 30, cpu: Duration::from_secs(60), cpu_per_mib: Duration::ZERO, code: 64 << 20 }
}

fn compiler(limits: Limits) -> (Compiler, Stop) {
    Compiler::new(program(), Vec::new(), limits, &engine::for_compiling().unwrap()).unwrap()
}

/// A compiler that is this shell script.
fn script(text: &str) -> (Compiler, Stop) {
    let words = vec!["-c".to_owned(), text.to_owned()];
    Compiler::new("/bin/sh".into(), words, limits(), &engine::for_compiling().unwrap()).unwrap()
}

/// A component of this many functions, each of this many steps.
fn large(functions: usize, steps: usize) -> Vec<u8> {
    let step = "(local.set 0 (i64.add (i64.mul (local.get 0) (local.get 1)) (i64.rotl (local.get 1) (local.get 0))))";
    let function = format!("(func (param i64 i64) (result i64) {} (local.get 0))", step.repeat(steps));
    wat::parse_str(format!("(component (core module {}))", function.repeat(functions))).unwrap()
}

fn bytes(code: &Code) -> Vec<u8> {
    let mut file = code.file();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_child_compiles_what_this_process_would_and_nobody_can_change_it() {
    let (compiler, _stop) = compiler(limits());
    let component = large(3, 3);
    let code = compiler.compile(&component).unwrap();
    let here = Code::compiled_here(&engine::make(1).unwrap().0, &component).unwrap();
    assert_eq!(bytes(&code), bytes(&here));
    let mut file = code.file();
    assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err());
}

#[test]
fn each_limit_ends_what_goes_past_it_and_says_so() {
    let fault = |limits: Limits, component: &[u8]| compiler(limits).0.compile(component).unwrap_err();
    let slow = fault(Limits { cpu: Duration::from_secs(1), ..limits() }, &large(2000, 500));
    assert!(matches!(&slow, CompileError::Cpu(1)), "{slow:?}");
    let hungry = fault(Limits { memory: 32 << 20, ..limits() }, &large(1, 100_000));
    assert!(matches!(&hungry, CompileError::Memory(_)), "{hungry:?}");
    let long = fault(Limits { code: 10_000, ..limits() }, &large(100, 100));
    assert!(matches!(&long, CompileError::Code(ByteSize(10_000))), "{long:?}");
    let broken = fault(limits(), b"\0asm\x0d\0\x01\0broken");
    assert!(matches!(&broken, CompileError::Invalid(_)), "{broken:?}");
    let text = slow.about(&tutti_base::sha256::digest(b"")).to_string();
    assert!(text.contains("component") && text.contains("more than 1 s of processor time"), "{text}");
}

#[test]
fn nested_as_deep_as_it_can_be_harms_nobody() {
    let (compiler, _stop) = compiler(limits());
    for depth in [1_000, 50_000] {
        let nest = |open: &str, close: &str| format!("{}{}", open.repeat(depth), close.repeat(depth));
        let blocks = format!("(component (core module (func {})))", nest("block ", "end "));
        // Deep types and components are refused by their depth; blocks are flat to the compiler.
        let _ = compiler.compile(&wat::parse_str(blocks).unwrap());
    }
    assert!(compiler.compile(&large(1, 1)).is_ok());
}

#[test]
fn every_end_of_a_child_has_a_meaning() {
    let words = format!("printf '{}\\033[2J\\n' >&2; exit 65", "long ".repeat(3000));
    for (text, word) in [
        ("exit 0", ""),
        ("echo why >&2; exit 65", "Invalid(\"why\")"),
        (words.as_str(), "Invalid(\"long long"),
        ("exit 66", "Code("),
        ("echo fault >&2; exit 101", "Crashed(\"fault\")"),
        ("kill -XCPU $$", "Cpu(60)"),
        ("kill -XFSZ $$", "Code("),
        ("echo memory allocation of 5 bytes failed >&2; kill -ABRT $$", "Memory("),
        ("echo overflow >&2; kill -ABRT $$", "overflow\")"),
        ("kill -SEGV $$", "Crashed("),
        ("kill -KILL $$", "out of memory"),
        ("echo refused >&2; exit 71", "71): refused"),
        ("exit 2", "Host("),
        // What it leaves running is not waited for.
        ("sleep 100 & exit 71", "Host("),
    ] {
        let (compiler, _stop) = script(text);
        let said = compiler.compile(b"").map_or_else(|error| format!("{error:?}"), |_| String::new());
        assert!(said.contains(word) && said.is_empty() == word.is_empty(), "{text}: {said}");
        assert!(said.len() < WORDS_BYTES + 100 && !said.contains('\u{1b}'), "{said}");
    }
    let engine = engine::for_compiling().unwrap();
    let gone = Compiler::new("/nowhere/at/all".into(), Vec::new(), limits(), &engine).unwrap().0;
    assert!(matches!(gone.compile(b""), Err(CompileError::Host(_))));
    let (mut other, _stop) = compiler(limits());
    other.engine = "0123".to_owned();
    let error = other.compile(&large(1, 1)).unwrap_err().to_string();
    assert!(error.contains("another build"), "{error}");
}

/// Waits until a condition holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

fn exists(pid: &str) -> bool {
    fs::exists(format!("/proc/{}", pid.trim())).unwrap()
}

#[test]
fn a_child_is_killed_with_the_driver_and_when_it_takes_too_long() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("pid");
    let (compiler, stop) = script(&format!("echo $$ > {}; exec sleep 1000", file.display()));
    let working = thread::spawn(move || (compiler.compile(b""), compiler));
    let pid = || fs::read_to_string(&file).unwrap_or_default();
    until("the child runs", || pid().ends_with('\n'));
    drop(stop);
    let (result, compiler) = working.join().unwrap();
    assert!(matches!(&result, Err(CompileError::Host(error)) if error.kind() == io::ErrorKind::Interrupted));
    assert!(!exists(&pid()), "it lives, or is a zombie");

    let (endless, _stop) = script("");
    let sleeping = Command::new("sleep").arg("1000").stderr(Stdio::piped()).spawn().unwrap();
    let pid = sleeping.id().to_string();
    let error = endless.attend(Running(sleeping), Duration::from_millis(50)).unwrap_err();
    assert!(error.to_string().contains("too busy"), "{error}");
    assert!(!exists(&pid));
    drop(compiler);
}

#[test]
fn a_child_has_given_up_all_but_its_work_and_ends_with_its_parent() {
    let order =
        Order { parent: std::process::id(), engine: "any".to_owned(), memory: 1 << 30, cpu: 7, code: 5000 };
    let (tell, told) = mpsc::channel();
    let (_input, input) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (write, read)).unwrap();
    let (go, gone) = mpsc::channel::<()>();
    // The kernel takes the thread that began a process for its parent.
    let parent = thread::spawn(move || {
        let child = Command::new(program()).args(order.words()).env_clear().stdin(input).spawn().unwrap();
        tell.send(child).unwrap();
        gone.recv().unwrap_err();
    });
    let mut child = told.recv().unwrap();
    let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap();
    // The last of the limits that it sets.
    let limit = |name: &str| {
        let limits = of("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    until("it has confined itself", || limit("Max cpu time") == "7");
    assert_eq!(limit("Max data size"), (1 << 30).to_string());
    assert_eq!(limit("Max file size"), "5000");
    assert_eq!(limit("Max open files"), "16");
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(of("oom_score_adj").trim(), "1000");
    assert!(of("status").contains("NoNewPrivs:\t1"));
    let stat = of("stat");
    assert!(stat.contains("(tutti-compile)"), "{stat}");
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"), "{stat}");
    drop(go);
    parent.join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn a_child_whose_parent_has_gone_already_does_nothing() {
    let order = Order { parent: 1, engine: "any".to_owned(), memory: 1 << 30, cpu: 7, code: 5000 };
    let output = Command::new(program()).args(order.words()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("the agent is gone"));
    assert_eq!(output.status.code(), Some(71));
}
