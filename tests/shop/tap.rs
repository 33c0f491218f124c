//! A TAP device: a network interface whose cable ends in this process. Making one takes an ioctl, the rig's only unsafe code.

#![allow(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

use std::ffi::{c_int, c_short};
use std::fs::{File, OpenOptions};

use anyhow::{Context, Result, ensure};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

const DEVICE: &str = "/dev/net/tun";

// From linux/if_tun.h. The kernel declares the argument as an int; what it reads is a `struct ifreq`.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
/// Ethernet frames rather than IP packets.
const IFF_TAP: c_short = 0x0002;
/// Without a header of the driver's own before each.
const IFF_NO_PI: c_short = 0x1000;

/// The bytes of an interface's name, with the zero that ends it.
const NAME_BYTES: usize = 16;

/// `struct ifreq` of linux/if.h: a name, and a union that is 24 bytes long where pointers are 8 bytes, the most there are.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: c_short,
    rest: [u8; 22],
}

/// Makes the interface in this thread's network. It is there as long as the file, from which its frames are read, one at a time;
/// once the network is gone, reading fails.
pub(crate) fn open(name: &str) -> Result<File> {
    ensure!(name.len() < NAME_BYTES, "an interface cannot be called {name}");
    let file = OpenOptions::new().read(true).write(true).open(DEVICE).context(DEVICE)?;
    let mut request = InterfaceRequest { name: [0; NAME_BYTES], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF copies one `struct ifreq` from its argument; InterfaceRequest is laid out as that, and at least as long.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) }
        .with_context(|| format!("{DEVICE}: {name}"))?;
    Ok(file)
}
