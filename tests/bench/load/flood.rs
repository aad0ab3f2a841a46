//! Packets as fast as the kernel takes them: XDP live frames, which arrive at an interface as if a
//! network card had received them.
//!
//! A program of a few instructions writes the frame each time, because the path under test changes it
//! and the kernel uses the same memory again.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::{Done, SHARES, milliseconds};
use crate::bpf::{Instruction, Running, XDP, instruction, load};
use crate::cpu::Clock;

/// Bytes of the smallest frame, without its checksum.
pub(crate) const FRAME: usize = 60;
/// Where the source port of UDP is.
const SOURCE_PORT: i16 = 34;
/// Frames for one system call, and of these for one batch.
const REPEAT: u32 = 8_192;
const BATCH: u32 = 64;

/// What a flood is told.
#[derive(Debug, Args)]
pub(super) struct Flooding {
    /// Index of the interface at which frames arrive
    #[arg(long)]
    at: u32,
    /// The frame, in hexadecimal
    #[arg(long, value_parser = frame)]
    frame: [u8; FRAME],
    /// Take one of 16,384 source ports for each frame
    #[arg(long)]
    many_flows: bool,
    /// How long, in milliseconds
    #[arg(long, value_parser = milliseconds)]
    time: Duration,
}

/// Sends as it is told. The work is frames.
pub(super) fn flood(told: &Flooding, cpu: Option<usize>) -> Result<Done> {
    let program = load(XDP, &instructions(&told.frame, told.many_flows))
        .context("load the program that writes frames")?;
    let clock = Clock::new(&[], cpu);
    let (before, started) = (clock.read()?, Instant::now());
    let work = send(&program, told, told.time)?;
    Ok(Done {
        work,
        cpu_ns: clock.read()? - before,
        wall_ns: started.elapsed().as_nanos() as u64,
        quantiles_ns: [0; SHARES.len()],
    })
}

/// Sends for `time`; returns how many frames.
fn send(program: &OwnedFd, told: &Flooding, time: Duration) -> Result<u64> {
    let end = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < end {
        run(program, told).context("send XDP live frames")?;
        sent += u64::from(REPEAT);
    }
    Ok(sent)
}

/// A frame from its hexadecimal digits.
fn frame(text: &str) -> Result<[u8; FRAME]> {
    ensure!(
        text.is_ascii() && text.len() == 2 * FRAME,
        "not {FRAME} bytes"
    );
    let mut frame = [0; FRAME];
    for (index, byte) in frame.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16)?;
    }
    Ok(frame)
}

/// A program that makes `frame` of every packet and passes it.
fn instructions(frame: &[u8; FRAME], many_flows: bool) -> Vec<Instruction> {
    const GET_PRANDOM_U32: i32 = 7;
    const XDP_PASS: i32 = 2;
    let mut body: Vec<_> = frame
        .chunks_exact(4)
        .zip((0..).step_by(4))
        .map(|(word, offset)| {
            let word = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            // *(u32 *)(r2 + offset) = word
            instruction(0x62, 2, 0, offset, word)
        })
        .collect();
    if many_flows {
        // *(u16 *)(r2 + SOURCE_PORT) = r7
        body.push(instruction(0x6b, 2, 7, SOURCE_PORT, 0));
    }
    let over = body.len() as i16;
    let mut all = vec![instruction(0xbf, 6, 1, 0, 0)]; // r6 = r1
    if many_flows {
        all.extend([
            instruction(0x85, 0, 0, 0, GET_PRANDOM_U32),
            instruction(0xbf, 7, 0, 0, 0),      // r7 = r0
            instruction(0x57, 7, 0, 0, 0xff3f), // 14 bits of the port, in network byte order
            instruction(0x47, 7, 0, 0, 0x0040),
        ]);
    }
    all.extend([
        instruction(0x61, 2, 6, 0, 0),            // r2 = data
        instruction(0x61, 3, 6, 4, 0),            // r3 = its end
        instruction(0xbf, 4, 2, 0, 0),            // r4 = r2
        instruction(0x07, 4, 0, 0, FRAME as i32), // r4 += FRAME
        instruction(0x2d, 4, 3, over, 0),         // if r4 > r3: leave it as it is
    ]);
    all.extend(body);
    all.push(instruction(0xb7, 0, 0, 0, XDP_PASS)); // r0 = XDP_PASS
    all.push(instruction(0x95, 0, 0, 0, 0)); // exit
    all
}

/// `struct xdp_md`.
#[derive(Default)]
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

fn run(program: &OwnedFd, told: &Flooding) -> io::Result<()> {
    const LIVE_FRAMES: u32 = 1 << 1;
    let context = Context {
        data_end: FRAME as u32,
        ingress_ifindex: told.at,
        ..Context::default()
    };
    let mut running = Running {
        data_size_in: FRAME as u32,
        data_in: told.frame.as_ptr().addr() as u64,
        repeat: REPEAT,
        context_size_in: size_of::<Context>() as u32,
        context_in: (&raw const context).addr() as u64,
        flags: LIVE_FRAMES,
        batch_size: BATCH,
        ..Running::of(program)
    };
    // SAFETY: frame and context live until the call returns, and it only reads them.
    unsafe { running.run() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back_from_its_digits() {
        let digits = "0a".repeat(FRAME);

        assert_eq!(frame(&digits).unwrap(), [10; FRAME]);
        assert!(frame(&digits[2..]).is_err() && frame(&"zz".repeat(FRAME)).is_err());
    }

    #[test]
    fn a_program_leaves_before_the_first_byte_if_there_is_no_room() {
        for many_flows in [false, true] {
            let all = instructions(&[0; FRAME], many_flows);

            let jump = all.iter().position(|one| one.code == 0x2d).unwrap();
            let lands = jump + 1 + all[jump].offset as usize;
            assert_eq!(all[lands], instruction(0xb7, 0, 0, 0, 2));
        }
    }
}
