use super::*;
use crate::fixture::{file, module, name};

const RUNNING: &str = "6.12.95+deb12-amd64";

fn gate(enforcement: Enforcement) -> ModuleGate {
    ModuleGate {
        release: RUNNING.parse().unwrap(),
        disabled: false,
        refused_names: vec![name("igbvf")],
        enforcement,
        keys: Some(vec![
            "1f0d I------ 1 perm 1f010000 0 0 asymmetri Example CA: 5a2b: X509.rsa 1b []".to_owned(),
        ]),
        flags: Some(words("SMP preempt mod_unload modversions")),
        symbols: None,
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn file_of(name: &str, vermagic: &str, signature: ModuleSignature) -> ModuleFile {
    let vermagic = format!("vermagic={vermagic}");
    let mut entries = vec!["license=GPL"];
    if vermagic.len() > "vermagic=".len() {
        entries.push(&vermagic);
    }
    let file = ModuleFile::parse(format!("/m/{name}.ko").as_ref(), &module(&entries, None)).unwrap();
    ModuleFile { signature, ..file }
}

fn told(gate: &ModuleGate, file: &ModuleFile) -> Vec<String> {
    gate.refusals(file).iter().map(ToString::to_string).collect()
}

const GOOD: &str = "6.12.95+deb12-amd64 SMP preempt mod_unload modversions ";

#[test]
fn fault_3_1_a_signature_is_asked_for_by_the_kernels_configuration_or_by_lockdown() {
    let by = |signer: &str| ModuleSignature::By(signer.to_owned());
    for (enforcement, words) in [
        (Enforcement::SigEnforce, "module.sig_enforce"),
        (Enforcement::Lockdown("integrity".to_owned()), "the kernel's lockdown (integrity)"),
    ] {
        let gate = gate(enforcement);
        let unsigned = told(&gate, &file_of("igb", GOOD, ModuleSignature::Unsigned));
        assert_eq!(unsigned, [format!("the file is not signed, and {words} asks for a signature")]);
        let unknown = told(&gate, &file_of("igb", GOOD, by("Somebody")));
        assert_eq!(
            unknown,
            [format!(
                "the file is signed by \"Somebody\", of whom the kernel has no key, and {words} asks for a signature that it trusts"
            )]
        );
        assert_eq!(told(&gate, &file_of("igb", GOOD, by("Example CA"))), [""; 0]);
        assert_eq!(told(&gate, &file_of("igb", GOOD, ModuleSignature::ByUnknown)), [""; 0]);
        // Where keys cannot be seen, whose is trusted cannot be told.
        let blind = ModuleGate { keys: None, ..gate };
        assert_eq!(told(&blind, &file_of("igb", GOOD, by("Somebody"))), [""; 0]);
    }
    for enforcement in [Enforcement::None, Enforcement::NotKnown] {
        assert_eq!(told(&gate(enforcement), &file_of("igb", GOOD, ModuleSignature::Unsigned)), [""; 0]);
    }
}

#[test]
fn fault_3_1_the_release_counts_without_versions_of_symbols_and_the_flags_always() {
    let gate = gate(Enforcement::None);
    let unsigned = |vermagic: &str| file_of("igb", vermagic, ModuleSignature::Unsigned);
    assert_eq!(told(&gate, &unsigned(GOOD)), [""; 0]);
    // What has none is taken or not as the kernel is configured.
    assert_eq!(told(&gate, &unsigned("")), [""; 0]);
    let other = "6.12.94+deb12-amd64 SMP preempt mod_unload modversions ";
    assert_eq!(
        told(&gate, &unsigned(other)),
        ["the file is for the kernel 6.12.94+deb12-amd64, and has no versions of symbols to compare"]
    );
    let with_versions = ModuleFile { has_symbol_versions: true, ..unsigned(other) };
    assert_eq!(told(&gate, &with_versions), [""; 0]);
    let flags = "6.12.95+deb12-amd64 SMP preempt_rt mod_unload modversions ";
    let refused = [
        "the file is for a kernel of another configuration: its vermagic has \"SMP preempt_rt mod_unload modversions\", \
         and the running kernel's \"SMP preempt mod_unload modversions\"",
    ];
    assert_eq!(told(&gate, &unsigned(flags)), refused);
    let with_versions = ModuleFile { has_symbol_versions: true, ..unsigned(flags) };
    assert_eq!(told(&gate, &with_versions), refused);
    let unknown = ModuleGate { flags: None, ..gate };
    assert_eq!(told(&unknown, &unsigned(flags)), [""; 0]);
}

#[test]
fn fault_3_1_a_kernel_that_loads_nothing_and_a_name_that_it_refuses() {
    let gate = gate(Enforcement::None);
    let refused = told(&gate, &file_of("igbvf", GOOD, ModuleSignature::Unsigned));
    assert_eq!(refused, ["module_blacklist= on the kernel's command line names it"]);
    let disabled = ModuleGate { disabled: true, ..gate };
    let refused = told(&disabled, &file_of("igb", "", ModuleSignature::Unsigned));
    assert_eq!(
        refused,
        ["kernel.modules_disabled is 1: this kernel loads and unloads no module before the next boot"]
    );
}

#[test]
fn fault_3_1_symbols_that_nobody_has() {
    const KALLSYMS: &str = "\
0000000000000000 T printk
0000000000000000 D init_net
0000000000000000 t helper\t[igb]
0000000000000000 T tls_do\t[tls]
0000000000000000 t bpf_prog\t[bpf:x]
";
    let symbols = kernel_symbols::symbols_of(KALLSYMS);
    assert!(symbols.is_some());
    let gate = ModuleGate { symbols, ..gate(Enforcement::None) };
    let candidate = |needed: &[&str], defined: &[&str]| CandidateModule {
        file: file_of("igb", GOOD, ModuleSignature::Unsigned),
        symbols: Some(ModuleSymbols {
            needed: needed.iter().map(|name| (*name).to_owned()).collect(),
            defined: defined.iter().map(|name| (*name).to_owned()).collect(),
        }),
    };
    let going = BTreeSet::from([name("igb")]);
    let told = |module: &CandidateModule, with: &[&CandidateModule]| {
        gate.unknown_symbols(module, with, &going).map(|refusal| refusal.to_string())
    };
    let other = candidate(&[], &["from_other"]);
    assert_eq!(told(&candidate(&["printk", "init_net", "tls_do", "from_other"], &[]), &[&other]), None);
    // What is in a module that goes is there only if a file has it.
    let words = "neither the running kernel nor a module that is loaded with it has the symbols ";
    assert_eq!(told(&candidate(&["helper", "printk"], &[]), &[&other]), Some(format!("{words}helper")));
    let many: Vec<String> = (0..7).map(|number| format!("no_{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        told(&candidate(&many, &[]), &[]),
        Some(format!("{words}no_0, no_1, no_2, no_3, no_4 and 2 more"))
    );
    // One of them is too large to be read as a whole: what it has is not known.
    let large = CandidateModule { symbols: None, ..candidate(&[], &[]) };
    assert_eq!(told(&candidate(&["helper"], &[]), &[&other, &large]), None);
    // A kernel that shows its functions alone tells nothing of data.
    assert!(kernel_symbols::symbols_of("0 T printk\n0 d in_a_module\t[tls]\n").is_none());
}

#[test]
fn a_trees_gate_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let host = Host::at(root);
    let vermagic = format!("vermagic={GOOD}");
    let own = module(&[&vermagic, "srcversion=AAAA"], None);
    file(root, "/lib/modules/k/kernel/tls.ko", &own);
    file(root, "/lib/modules/k/kernel/old.ko", module(&["vermagic=4.0 SMP", "srcversion=BBBB"], None));
    file(root, "/sys/module/tls/srcversion", "AAAA\n");
    file(root, "/sys/module/old/srcversion", "CCCC\n");
    file(root, "/proc/modules", "foreign 1 0 - Live 0x0 (OE)\nold 1 0 - Live 0x0\ntls 1 0 - Live 0x0\n");
    let index = ModuleIndex::parse(
        "/lib/modules/k".as_ref(),
        "kernel/tls.ko:\nkernel/old.ko:\nkernel/foreign.ko:\n",
        "",
        "",
    )
    .unwrap();
    let read = || {
        let loaded = LoadedModules::read_graph(&host).unwrap();
        ModuleGate::read(&host, &RUNNING.parse().unwrap(), &index, &loaded)
    };
    let bare = read();
    assert_eq!(bare.flags, Some(words("SMP preempt mod_unload modversions")), "of the file that runs");
    assert_eq!(bare.enforcement, Enforcement::None, "a kernel without signatures has no such parameter");
    assert!(!bare.disabled && bare.refused_names.is_empty() && bare.keys.is_none() && bare.symbols.is_none());
    file(root, "/sys/module/module/parameters/sig_enforce", "N\n");
    assert_eq!(read().enforcement, Enforcement::NotKnown);
    file(root, "/host/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert_eq!(read().enforcement, Enforcement::Lockdown("integrity".to_owned()));
    file(root, "/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
    assert_eq!(read().enforcement, Enforcement::None);
    file(root, "/sys/module/module/parameters/sig_enforce", "Y\n");
    file(root, "/proc/sys/kernel/modules_disabled", "1\n");
    file(root, "/sys/module/kernel/parameters/module_blacklist", "igb,mlx5-core\n");
    file(
        root,
        "/proc/keys",
        "0a I--Q--- 1 perm 3f 0 0 keyring _ses: 1\n1b I------ 1 perm 1f 0 0 asymmetri A: X509.rsa\n",
    );
    let full = read();
    assert_eq!((full.disabled, full.enforcement), (true, Enforcement::SigEnforce));
    assert_eq!(full.refused_names, [name("igb"), name("mlx5_core")]);
    assert_eq!(full.keys.map(|keys| keys.len()), Some(1));
    // A runtime hides the file behind an empty one.
    file(root, "/proc/keys", "");
    assert_eq!(read().keys, None);
}
