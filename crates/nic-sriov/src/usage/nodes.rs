//! Device files whose users keep a reference on a module: UIO, verbs, MADs, fwctl, vhost-vdpa.

use std::path::Path;

use nic_host::{DeviceNumber, Host, ReadError, error_chain};

use super::{Asked, DeviceUser, Inquiry, Untold, Usage};

/// A class of device files that stand below a device in sysfs.
struct NodeClass {
    /// The folder below the device.
    folder: &'static str,
    /// Where the files are.
    files: &'static str,
    /// The module that an open file keeps; `None` for the module of the device's driver.
    keeps: Option<&'static str>,
    is_rdma: bool,
}

/// `uio_open` in `drivers/uio/uio.c` takes a reference on the module that registered the device; the others have a `struct cdev` or
/// `file_operations` of the named module, which `chrdev_open` in `fs/char_dev.c` takes one on (`ib_uverbs_add_one` in
/// `drivers/infiniband/core/uverbs_main.c`, `ib_umad_init_port` in `user_mad.c` beside it, `fwctl_register` in `drivers/fwctl/main.c`).
const CLASSES: &[NodeClass] = &[
    NodeClass { folder: "uio", files: "/dev", keeps: None, is_rdma: false },
    NodeClass { folder: "fwctl", files: "/dev/fwctl", keeps: Some("fwctl"), is_rdma: false },
    NodeClass {
        folder: "infiniband_verbs",
        files: "/dev/infiniband",
        keeps: Some("ib_uverbs"),
        is_rdma: true,
    },
    NodeClass { folder: "infiniband_mad", files: "/dev/infiniband", keeps: Some("ib_umad"), is_rdma: true },
];

/// How deep devices of the auxiliary bus are followed: a sub-function's own stand below it.
const DEPTH: usize = 3;

impl Inquiry {
    /// The device files of the device, and of the devices of the auxiliary bus below it: a PF's sub-functions.
    pub(super) fn nodes(&self, asked: &Asked<'_>) -> Usage {
        let places = match places(&self.host, &asked.sysfs) {
            Ok(places) => places,
            Err(why) => return Usage::CannotBeTold(Untold::Device(why)),
        };
        let classes = CLASSES.iter().filter(|class| self.asks_rdma || !class.is_rdma);
        Usage::of_all(classes.flat_map(|class| places.iter().map(move |place| self.class(class, place))))
    }

    fn class(&self, class: &NodeClass, place: &str) -> Usage {
        let folder = format!("{place}/{}", class.folder);
        let cannot = |why: String| Usage::CannotBeTold(Untold::Device(why));
        let names = match self.host.list_if_exists(&folder) {
            Ok(names) => names,
            Err(error) => return cannot(error_chain(&error)),
        };
        let module = match class.keeps {
            Some(module) => Some(module.to_owned()),
            None => match self.host.link_name(format!("{place}/driver/module")) {
                Ok(module) => module,
                Err(error) => return cannot(error_chain(&error)),
            },
        };
        Usage::of_all(names.into_iter().map(|name| {
            self.node(&format!("{}/{name}", class.files), &format!("{folder}/{name}"), module.as_deref())
        }))
    }

    /// Whether somebody has a device file open. `module` is the one that an open file keeps: without a reference on it nobody has.
    pub(super) fn node(&self, file: &str, sysfs: &str, module: Option<&str>) -> Usage {
        let cannot = |why: String| Usage::CannotBeTold(Untold::File { file: file.to_owned(), why });
        let number: DeviceNumber = match self.host.attribute(format!("{sysfs}/dev")) {
            Ok(Some(number)) => match number.parse() {
                Ok(number) => number,
                Err(error) => return cannot(error_chain(&error)),
            },
            // Without a number there is no file.
            Ok(None) => return Usage::Free,
            Err(error) => return cannot(error_chain(&error)),
        };
        match module.map(|module| foreign_references(&self.host, module)).transpose() {
            Ok(Some(Some(0))) => return Usage::Free,
            Ok(_) => {}
            Err(error) => return cannot(error_chain(&error)),
        }
        let processes = match self.processes() {
            Ok(processes) => processes,
            Err(why) => return cannot(why),
        };
        match processes.open.iter().find(|open| open.is(number, Path::new(file))) {
            Some(open) => Usage::InUse(DeviceUser::Process {
                pid: open.pid,
                command: self.host.command_of(open.pid),
                file: file.to_owned(),
            }),
            None if processes.are_all => Usage::Free,
            None => cannot("this process does not see all processes of the machine".to_owned()),
        }
    }
}

/// References on a module that no other module explains; `None` where the kernel does not count them, as of what is built in.
fn foreign_references(host: &Host, module: &str) -> Result<Option<usize>, ReadError> {
    let folder = format!("/sys/module/{module}");
    let Some(count) = host.attribute(format!("{folder}/refcnt"))? else { return Ok(None) };
    let holders = host.list_if_exists(format!("{folder}/holders"));
    let holders = holders.map_err(|error| ReadError { path: error.path, source: error.source })?;
    Ok(count.parse::<usize>().ok().map(|count| count.saturating_sub(holders.len())))
}

/// The device's folder, and those of the devices of the auxiliary bus below it.
fn places(host: &Host, sysfs: &str) -> Result<Vec<String>, String> {
    let mut places = vec![sysfs.to_owned()];
    let mut level = places.clone();
    for _ in 0..DEPTH {
        let mut below = Vec::new();
        for place in &level {
            let names = host.list_if_exists(place).map_err(|error| error_chain(&error))?;
            below.extend(
                names.into_iter().filter(|name| is_auxiliary(name)).map(|name| format!("{place}/{name}")),
            );
        }
        places.extend(below.iter().cloned());
        level = below;
    }
    Ok(places)
}

/// Whether it is the name of a device of the auxiliary bus: `module.kind.number` (`__auxiliary_device_add` in
/// `drivers/base/auxiliary.c`).
fn is_auxiliary(name: &str) -> bool {
    let mut parts = name.split('.');
    let (module, kind, number) = (parts.next(), parts.next(), parts.next());
    let is_name = |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && !part.contains(':'));
    is_name(module)
        && is_name(kind)
        && number.is_some_and(|number| number.parse::<u32>().is_ok())
        && parts.next().is_none()
}
