//! QEMU's monitor: what the processors of a guest are at, asked for from outside.
//!
//! Every machine is asked for its registers every few seconds: a processor that has halted and lost a wake-up of the
//! emulator gets one by the question. When one stands still all the same, the registers say where: halted, elsewhere in
//! the kernel, or in a program. The guests' timer ticks all the time (`nohz=off`), so that a halted processor runs again
//! within milliseconds; the state of its local APIC says whether the emulator has the tick, and what holds it.

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

/// What makes QEMU serve its monitor at `socket`.
pub(crate) fn monitor_arguments(socket: &Path) -> [String; 2] {
    ["-qmp".to_owned(), format!("unix:{},server=on,wait=off", socket.display())]
}

/// What a processor is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processor {
    number: u32,
    instruction: u64,
    flags: u64,
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
        let mut looks = Vec::new();
        for look in 1..=LOOKS {
            let registers = connection.registers()?;
            text.push_str(&format!("registers, look {look} of {LOOKS}:\n{registers}\n"));
            looks.push(Processor::parse_all(&registers));
            thread::sleep(BETWEEN);
        }
        let mut findings = Vec::new();
        for processor in looks.last().into_iter().flatten() {
            let apic = connection.local_apic(processor.number)?;
            let seen: Vec<_> =
                looks.iter().flatten().filter(|other| other.number == processor.number).collect();
            findings.push(finding(&seen, &apic, symbols));
            text.push_str(&format!("local APIC of processor {}:\n{apic}\n", processor.number));
        }
        let finding = findings.join("; ");
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
        self.ask("info registers -a")
    }

    fn local_apic(&mut self, processor: u32) -> anyhow::Result<String> {
        self.ask(&format!("info lapic {processor}"))
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        let arguments = json!({ "command-line": question });
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
                processors.push(Self {
                    number,
                    instruction: 0,
                    flags: 0,
                    halted: false,
                    in_user_space: false,
                });
            }
            let Some(processor) = processors.last_mut() else { continue };
            for word in line.split_whitespace() {
                match word.split_once('=') {
                    Some(("RIP" | "EIP", value)) => {
                        processor.instruction = u64::from_str_radix(value, 16).unwrap_or_default();
                    }
                    Some(("RFL" | "EFL", value)) => {
                        processor.flags = u64::from_str_radix(value, 16).unwrap_or_default();
                    }
                    Some(("HLT", value)) => processor.halted = value == "1",
                    Some(("CPL", value)) => processor.in_user_space = value == "3",
                    _ => {}
                }
            }
        }
        processors
    }
}

/// A processor, as it was in each look: what it was at, and which interrupts its local APIC holds back.
fn finding(looks: &[&Processor], apic: &str, symbols: Option<&Symbols>) -> String {
    let Some(last) = looks.last() else { return "no processor".to_owned() };
    let all = |is: fn(&Processor) -> bool| looks.iter().all(|look| is(look));
    let what = if looks.iter().any(|look| look != last) {
        "moves"
    } else if all(|look| look.halted) {
        "is halted, the same in each look"
    } else if all(|look| look.in_user_space) {
        "is at one instruction of a program"
    } else {
        "is at one instruction of the kernel"
    };
    let place = symbols.and_then(|symbols| symbols.function_at(last.instruction));
    let place = place.map(|place| format!(", {place}")).unwrap_or_default();
    let interrupts = |register: &str| {
        apic.lines().find_map(|line| line.strip_prefix(register)).map_or("unknown", str::trim)
    };
    format!(
        "processor {} {what} (at {:#x}{place}; interrupts in service: {}, requested: {})",
        last.number,
        last.instruction,
        interrupts("ISR"),
        interrupts("IRR"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const REGISTERS: &str = "\nCPU#0\nRAX=0000000000000000 RBX=0000000000000000\nRIP=ffffffff81000010 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\nES =0000 0000000000000000\n\nCPU#1\nRIP=ffffffff81000120 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n\nCPU#2\nRIP=00007f0000001000 RFL=00000202 [-------] CPL=3 II=0 A20=1 SMM=0 HLT=0\n";
    const APIC: &str = "dumping local APIC state for CPU 0\n\nLVTT\t 0x000200ec periodic Fixed (vec 236)\nISR\t 236\nIRR\t 236 251\n";
    const SYMBOLS: &str =
        "ffffffff81000000 T pv_native_safe_halt\nffffffff81000100 t rcu_core\nffffffff81000200 t next\n";

    #[test]
    fn registers_tell_where_each_processor_stands() {
        let look = Processor::parse_all(REGISTERS);
        assert_eq!(look.len(), 3);
        let symbols = Symbols::parse(SYMBOLS);
        let twice = |number: usize| finding(&[&look[number], &look[number]], APIC, Some(&symbols));
        assert_eq!(
            twice(0),
            "processor 0 is halted, the same in each look (at 0xffffffff81000010, pv_native_safe_halt; interrupts \
             in service: 236, requested: 236 251)"
        );
        assert_eq!(
            finding(&[&look[1], &look[1]], "", None),
            "processor 1 is at one instruction of the kernel (at 0xffffffff81000120; interrupts in service: \
             unknown, requested: unknown)"
        );
        assert!(twice(2).starts_with("processor 2 is at one instruction of a program (at 0x7f0000001000;"));
        // An idle processor halts at the same place again and again; what it did in between shows in its flags.
        let ran = Processor { flags: 0x202, ..look[0].clone() };
        assert!(finding(&[&look[0], &ran, &look[0]], APIC, None).starts_with("processor 0 moves (at "));
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
                    let question = request["arguments"]["command-line"].as_str().unwrap_or_default();
                    let told = match question.split_whitespace().nth(1) {
                        Some("registers") => json!(REGISTERS),
                        Some(_) => json!(APIC),
                        None => json!({}),
                    };
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
        assert!(examination.finding.contains("processor 0 is halted"), "{}", examination.finding);
        assert!(examination.text.contains("look 5 of 5") && examination.text.contains("after an NMI"));
        let asked: Vec<String> = machine.iter().collect();
        // The examination has a connection of its own, which begins with this command.
        let begin = asked.iter().rposition(|command| command == "qmp_capabilities").unwrap();
        let examined = &asked[begin..];
        assert_eq!(examined.iter().filter(|command| *command == "inject-nmi").count(), 1);
        assert_eq!(examined.iter().filter(|command| is_look(command)).count(), LOOKS + 3 + 1);
    }

    #[test]
    fn a_machine_that_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Monitor::watch(&folder.path().join("nothing")).examine(None).is_err());
    }
}
