//! QEMU's monitor: what the processors of a guest are at, asked for from outside.
//!
//! Every machine is asked for its registers every few seconds. A processor that has halted in its idle loop and lost a
//! wake-up of the emulator gets one by the question; in runs in which every machine was asked so, none stood still. When
//! one stands still all the same, the registers say where: in the kernel's idle loop (then the emulator has lost the
//! wake-up), elsewhere in the kernel, or in a program.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::symbols::Symbols;

/// How often the registers are asked for.
const INTERVAL: Duration = Duration::from_secs(9);
/// How long QEMU may take to make its socket, and to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the registers are looked at when a processor stands still, and how far apart.
const LOOKS: usize = 5;
const BETWEEN: Duration = Duration::from_secs(1);
/// Functions in which a processor of an idle kernel waits (arch/x86/kernel/process.c, drivers/idle).
const IDLE: [&str; 8] = [
    "default_idle",
    "native_safe_halt",
    "pv_native_safe_halt",
    "arch_cpu_idle",
    "mwait_idle",
    "acpi_idle_do_entry",
    "acpi_safe_halt",
    "default_idle_call",
];

/// What makes QEMU serve its monitor at `socket`.
pub(crate) fn monitor_arguments(socket: &Path) -> [String; 2] {
    ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", socket.display())]
}

/// What a processor is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processor {
    number: u32,
    instruction: u64,
    /// Whether it waits for an interrupt.
    halted: bool,
    /// Whether it runs a program, and not the kernel.
    in_user_space: bool,
}

/// A thread that asks, until it is dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    socket: PathBuf,
    end: Option<Sender<()>>,
    asking: Option<JoinHandle<()>>,
}

/// What was found out about a machine that stands still.
#[derive(Debug)]
pub(crate) struct Examination {
    /// All that was seen, for the log.
    pub(crate) text: String,
    /// In one sentence.
    pub(crate) finding: String,
}

impl Monitor {
    /// Begins to ask the machine whose QMP socket is, or will be, at `socket`.
    pub(crate) fn watch(socket: &Path) -> Self {
        Self::watch_every(socket, INTERVAL)
    }

    fn watch_every(socket: &Path, interval: Duration) -> Self {
        let (end, ended) = mpsc::channel();
        let path = socket.to_path_buf();
        // A machine that is gone, or that does not answer, is for its console to tell.
        let asking = thread::spawn(move || drop(ask_until_ended(&path, interval, &ended)));
        Self { socket: socket.to_path_buf(), end: Some(end), asking: Some(asking) }
    }

    /// Looks at the registers several times, then wakes all processors by an NMI, and looks again.
    pub(crate) fn examine(mut self, symbols: Option<&Symbols>) -> anyhow::Result<Examination> {
        // QEMU serves one at a time.
        self.stop();
        let mut connection = Connection::open(&self.socket)?;
        let mut text = String::new();
        let mut first = Vec::new();
        for look in 0..LOOKS {
            let registers = connection.registers()?;
            text.push_str(&format!("registers, look {} of {LOOKS}:\n{registers}\n", look + 1));
            if look == 0 {
                first = Processor::parse_all(&registers);
            }
            thread::sleep(BETWEEN);
        }
        let last = Processor::parse_all(&connection.registers()?);
        let finding = finding(&first, &last, symbols);
        connection.execute("inject-nmi", &json!({}))?;
        thread::sleep(BETWEEN);
        text.push_str(&format!("registers after an NMI:\n{}\nfinding: {finding}\n", connection.registers()?));
        Ok(Examination { text, finding })
    }

    fn stop(&mut self) {
        self.end.take();
        if let Some(asking) = self.asking.take() {
            // It has nothing to say.
            let _ = asking.join();
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ask_until_ended(socket: &Path, interval: Duration, ended: &Receiver<()>) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut connection = loop {
        match Connection::open(socket) {
            Ok(connection) => break connection,
            Err(error) if began.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
        if !matches!(ended.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout)) {
            return Ok(());
        }
    };
    while matches!(ended.recv_timeout(interval), Err(RecvTimeoutError::Timeout)) {
        connection.registers()?;
    }
    Ok(())
}

/// A connection to QEMU's monitor, by its protocol QMP: JSON objects, a line each.
struct Connection {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Connection {
    fn open(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to the monitor {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot limit the wait for the monitor")?;
        let lines = BufReader::new(stream.try_clone().context("cannot share the monitor's socket")?);
        let mut connection = Self { stream, lines };
        let greeting = connection.read()?;
        if greeting.get("QMP").is_none() {
            bail!("the monitor greets with {greeting}");
        }
        connection.execute("qmp_capabilities", &json!({}))?;
        Ok(connection)
    }

    fn registers(&mut self) -> anyhow::Result<String> {
        let arguments = json!({ "command-line": "info registers -a" });
        let told = self.execute("human-monitor-command", &arguments)?;
        Ok(told.as_str().unwrap_or_default().replace('\r', ""))
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream, "{request}")
            .with_context(|| format!("cannot ask the monitor for {command}"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("the monitor refuses {command}: {error}");
            }
            if let Some(told) = answer.get_mut("return") {
                return Ok(told.take());
            }
            // Events come in between.
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).context("the monitor does not answer")? == 0 {
            bail!("the monitor has closed");
        }
        serde_json::from_str(&line).with_context(|| format!("the monitor says {line:?}"))
    }
}

impl Processor {
    /// Reads what `info registers -a` tells of each processor.
    fn parse_all(text: &str) -> Vec<Self> {
        let mut processors: Vec<Self> = Vec::new();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("CPU#").and_then(|number| number.trim().parse().ok()) {
                processors.push(Self { number, instruction: 0, halted: false, in_user_space: false });
            }
            let Some(processor) = processors.last_mut() else { continue };
            for word in line.split_whitespace() {
                match word.split_once('=') {
                    Some(("RIP" | "EIP", value)) => {
                        processor.instruction = u64::from_str_radix(value, 16).unwrap_or_default();
                    }
                    Some(("HLT", value)) => processor.halted = value == "1",
                    Some(("CPL", value)) => processor.in_user_space = value == "3",
                    _ => {}
                }
            }
        }
        processors
    }

    fn place<'a>(&self, symbols: Option<&'a Symbols>) -> Option<&'a str> {
        symbols.and_then(|symbols| symbols.function_at(self.instruction))
    }
}

/// Each processor: where it stands, and whose fault that is as far as it can be told.
fn finding(first: &[Processor], last: &[Processor], symbols: Option<&Symbols>) -> String {
    let of = |processor: &Processor| {
        let before = first.iter().find(|other| other.number == processor.number);
        let moved = before.is_none_or(|before| before.instruction != processor.instruction);
        let place = processor.place(symbols);
        let idle = processor.halted || place.is_some_and(|place| IDLE.contains(&place));
        let what = match (processor.in_user_space, idle, moved) {
            (true, ..) => "runs a program",
            (false, true, false) => {
                "stays halted in the kernel's idle loop: the emulator has lost its wake-up"
            }
            (false, true, true) => "is idle",
            (false, false, true) => "runs in the kernel",
            (false, false, false) => "stays in the kernel at one instruction",
        };
        format!(
            "processor {} {what} ({processor}{})",
            processor.number,
            place.map(|place| format!(", {place}")).unwrap_or_default()
        )
    };
    last.iter().map(of).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.instruction)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const REGISTERS: &str = "\nCPU#0\nRAX=0000000000000000 RBX=0000000000000000\nRIP=ffffffff81000010 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\nES =0000 0000000000000000\n\nCPU#1\nRIP=ffffffff81000120 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\nCPU#2\nRIP=00007f0000001000 RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n";
    const SYMBOLS: &str =
        "ffffffff81000000 T pv_native_safe_halt\nffffffff81000100 t rcu_core\nffffffff81000200 t next\n";

    #[test]
    fn registers_tell_where_each_processor_stands() {
        let first = Processor::parse_all(REGISTERS);
        assert_eq!(first.len(), 3);
        let symbols = Symbols::parse(SYMBOLS);
        let told = finding(&first, &first, Some(&symbols));
        assert_eq!(
            told,
            "processor 0 stays halted in the kernel's idle loop: the emulator has lost its wake-up \
             (0xffffffff81000010, pv_native_safe_halt); processor 1 stays in the kernel at one instruction \
             (0xffffffff81000120, rcu_core); processor 2 runs a program (0x7f0000001000)"
        );
        let mut later = first.clone();
        later[1].instruction += 4;
        assert!(finding(&first, &later, None).contains("processor 1 runs in the kernel"));
    }

    /// A monitor that answers as QEMU does; tells what it is asked for, command by command.
    fn pretend(listener: UnixListener, connections: usize) -> Receiver<String> {
        let (sender, asked) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = stream.unwrap();
                writeln!(stream, "{}", json!({ "QMP": { "version": {} } })).unwrap();
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let Ok(line) = line else { break };
                    let request: Value = serde_json::from_str(&line).unwrap();
                    let command = request["execute"].as_str().unwrap().to_owned();
                    let told = if command == "human-monitor-command" { json!(REGISTERS) } else { json!({}) };
                    writeln!(stream, "{}", json!({ "event": "RTC_CHANGE" })).unwrap();
                    writeln!(stream, "{}", json!({ "return": told })).unwrap();
                    if sender.send(command).is_err() {
                        return;
                    }
                }
            }
        });
        asked
    }

    #[test]
    fn a_machine_is_asked_and_examined() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        // The machine may make its socket later than it is asked for.
        let monitor = Monitor::watch_every(&socket, Duration::from_millis(10));
        let machine = pretend(UnixListener::bind(&socket).unwrap(), 2);
        // However busy this machine is: it is examined once it has been asked for its registers twice.
        let is_look = |command: &String| command == "human-monitor-command";
        let asked = std::iter::from_fn(|| machine.recv_timeout(PATIENCE).ok());
        assert_eq!(asked.filter(is_look).take(2).count(), 2, "it is asked again and again");
        let examination = monitor.examine(Some(&Symbols::parse(SYMBOLS))).unwrap();
        assert!(examination.finding.contains("processor 0 stays halted"), "{}", examination.finding);
        assert!(examination.text.contains("look 5 of 5") && examination.text.contains("after an NMI"));
        let asked: Vec<String> = machine.iter().collect();
        // The examination has a connection of its own, which begins with this command.
        let begin = asked.iter().rposition(|command| command == "qmp_capabilities").unwrap();
        let examined = &asked[begin..];
        assert_eq!(examined.iter().filter(|command| *command == "inject-nmi").count(), 1);
        assert_eq!(examined.iter().filter(|command| is_look(command)).count(), LOOKS + 2);
    }

    #[test]
    fn a_machine_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Monitor::watch(&folder.path().join("nothing")).examine(None).is_err());
    }
}
