use std::time::{Duration, Instant};

use bytes::BufMut;
use loom_core::{NtpTime, Timescale};

/// What one source's packets say for a receiver report (RFC 3550 §6.4.1, §A.3, §A.8).
#[derive(Debug, Default)]
pub(super) struct Reception {
    /// The first and the highest place seen.
    span: Option<(i64, i64)>,
    received: u64,
    /// Expected and received at the last report.
    before: (u64, u64),
    /// Sixteen times the jitter, in ticks.
    jitter: u64,
    /// Arrival less timestamp of the last packet, in ticks, modulo 2³².
    transit: Option<(Instant, u32)>,
    /// The middle 32 bits of the last sender report's clock, and when it came.
    report: Option<(u32, Instant)>,
}

/// A stream that began anew lies this far from the old one at least.
const RESTART: i64 = crate::limits::SEQUENCE_LEAP;

impl Reception {
    /// Takes the packet at `sequence`; `transit` is its timestamp, unless it was sent again, which says nothing about
    /// jitter.
    pub(super) fn handle_packet(&mut self, sequence: i64, transit: Option<(u32, Timescale)>, now: Instant) {
        match &mut self.span {
            Some((_, highest)) if (sequence - *highest).abs() <= RESTART => {
                *highest = (*highest).max(sequence);
            }
            span => {
                *span = Some((sequence, sequence));
                self.received = 0;
                self.before = (0, 0);
                self.transit = None;
            }
        }
        self.received += 1;
        if let Some((timestamp, scale)) = transit {
            let (epoch, last) = self.transit.unwrap_or((now, 0));
            let arrived = ticks(now.saturating_duration_since(epoch), scale);
            let transit = (arrived as u32).wrapping_sub(timestamp);
            if self.transit.is_some() {
                let step = u64::from((transit.wrapping_sub(last) as i32).unsigned_abs());
                // a step of more than ten seconds is a clock that was reset
                if step < 10 * u64::from(scale.hz()) {
                    self.jitter = self.jitter + step - ((self.jitter + 8) >> 4);
                }
            }
            self.transit = Some((epoch, transit));
        }
    }

    pub(super) fn handle_report(&mut self, ntp: NtpTime, now: Instant) {
        self.report = Some(((ntp.0 >> 16) as u32, now));
    }

    /// Writes one report block, and begins the next interval.
    pub(super) fn write_block(&mut self, packet: &mut Vec<u8>, source: u32, now: Instant) {
        let (first, highest) = self.span.unwrap_or_default();
        let expected = (highest - first + 1).unsigned_abs();
        let lost = expected as i64 - self.received as i64;
        let expected_now = expected.saturating_sub(self.before.0);
        let lost_now = expected_now.saturating_sub(self.received.saturating_sub(self.before.1));
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        self.before = (expected, self.received);
        let lost = lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
        let (last_report, delay) = self.report.map_or((0, 0), |(middle, at)| {
            let delay = now.saturating_duration_since(at);
            let delay = (delay.as_nanos() * 65_536 / 1_000_000_000).min(u128::from(u32::MAX));
            (middle, delay as u32)
        });
        packet.put_u32(source);
        packet.put_u32((fraction as u32) << 24 | lost);
        packet.put_u32(highest as u32);
        packet.put_u32((self.jitter >> 4) as u32);
        packet.put_u32(last_report);
        packet.put_u32(delay);
    }
}

fn ticks(span: Duration, scale: Timescale) -> u64 {
    (span.as_nanos() * u128::from(scale.hz()) / 1_000_000_000) as u64
}
