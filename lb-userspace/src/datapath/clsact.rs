//! Filters on an interface's clsact qdisc: how programs are attached before Linux 6.6.
//!
//! A filter belongs to the interface and outlives every process. Ours has a fixed place, so that a
//! later veer finds it and replaces its program in one step.

use std::io;

use aya::programs::links::Link;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use nix::net::if_::if_indextoname;

use super::bpf::AttachType;
use super::hooks::Hooked;
use super::pins::Pins;

/// Before the filters of others, which begin at 49152 if they do not choose.
const PRIORITY: u16 = 1;
/// "ve", so that it is nobody else's.
const HANDLE: TcHandle = TcHandle::new(0, 0x7665);

/// Gives the interface what filters hang on; `false` if it has it.
pub(super) fn add_qdisc(ifindex: u32) -> io::Result<bool> {
    match qdisc_add_clsact(&name(ifindex)?) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            Ok(false)
        }
        result => result
            .map(|()| true)
            .map_err(|error| io_error(error.into())),
    }
}

/// Puts the pinned program onto the interface, in the place of an older one.
pub(super) fn attach(hooked: Hooked, ifindex: u32, pins: &Pins) -> io::Result<()> {
    add_qdisc(ifindex)?;
    let name = name(ifindex)?;
    let mut program = pinned(hooked, pins)?;
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    });
    let link = match program.attach_with_options(&name, side(hooked), options) {
        Err(error) if os_error(&error) == Some(libc::EEXIST) => {
            program.attach_to_link(filter(hooked, &name)?)
        }
        link => link,
    };
    keep(&mut program, link)
}

/// Puts the pinned program in the place of an older one; `false` if there is none.
pub(super) fn replace(hooked: Hooked, ifindex: u32, pins: &Pins) -> io::Result<bool> {
    let Ok(name) = name(ifindex) else {
        return Ok(false);
    };
    let mut program = pinned(hooked, pins)?;
    match program.attach_to_link(filter(hooked, &name)?) {
        Err(error) if matches!(os_error(&error), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        link => keep(&mut program, link).map(|()| true),
    }
}

/// Takes our filter off the interface; `false` if it is not there.
pub(super) fn detach(hooked: Hooked, ifindex: u32) -> io::Result<bool> {
    let Ok(name) = name(ifindex) else {
        return Ok(false);
    };
    match filter(hooked, &name)?.detach() {
        Err(error) if matches!(os_error(&error), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        result => result.map(|()| true).map_err(io_error),
    }
}

fn name(ifindex: u32) -> io::Result<String> {
    let name = if_indextoname(ifindex)?.into_string();
    let name = name.map_err(|_| io::Error::other("the interface's name is not text"))?;
    // What nix 0.31 gives for an index that no interface has.
    if name.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    Ok(name)
}

fn pinned(hooked: Hooked, pins: &Pins) -> io::Result<SchedClassifier> {
    SchedClassifier::from_pin(pins.program(hooked.program)).map_err(io_error)
}

fn filter(hooked: Hooked, name: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, side(hooked), PRIORITY, HANDLE, None)
}

fn side(hooked: Hooked) -> TcAttachType {
    match hooked.side {
        AttachType::TcxEgress => TcAttachType::Egress,
        _ => TcAttachType::Ingress,
    }
}

/// Lets the filter outlive this process.
fn keep(
    program: &mut SchedClassifier,
    link: Result<<SchedClassifierLink as Link>::Id, ProgramError>,
) -> io::Result<()> {
    let link = link.and_then(|link| program.take_link(link));
    // Dropping it would take the filter off.
    std::mem::forget(link.map_err(io_error)?);
    Ok(())
}

fn os_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::TcError(TcError::NetlinkError(error)) | ProgramError::NetlinkError(error) => {
            error.raw_os_error()
        }
        ProgramError::TcError(TcError::IoError(error)) => error.raw_os_error(),
        _ => None,
    }
}

fn io_error(error: ProgramError) -> io::Error {
    match os_error(&error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error),
    }
}
