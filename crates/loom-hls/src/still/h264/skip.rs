//! The data of a slice whose every macroblock is skipped (ISO/IEC 14496-10 §7.3.4).

use crate::still::bits::BitWriter;

/// `SliceQPY` of such a slice: nothing is quantised, and [`State::first`] is right for this one.
pub(super) const QP: i32 = 51;

/// With CAVLC: one `mb_skip_run` over the whole picture. Gives the whole payload.
pub(super) fn finish_cavlc(mut head: BitWriter, macroblocks: u32) -> Vec<u8> {
    head.ue(macroblocks);
    head.finish()
}

/// With CABAC: one `mb_skip_flag` and one `end_of_slice_flag` a macroblock. Gives the whole payload.
pub(super) fn finish_cabac(mut head: BitWriter, macroblocks: u32) -> Vec<u8> {
    while !head.is_aligned() {
        head.bit(true); // cabac_alignment_one_bit
    }
    let mut coder = Coder {
        out: head,
        low: 0,
        range: 510,
        outstanding: 0,
        first: true,
    };
    let mut state = State::first();
    for left in (0..macroblocks).rev() {
        coder.skip(&mut state);
        coder.end(left == 0);
    }
    coder.out.into_bytes()
}

/// The context of `mb_skip_flag` with both neighbours skipped or absent (§9.3.3.1.1.1), while 1 is its more probable value.
struct State(usize);

impl State {
    /// §9.3.1.1 with `cabac_init_idc` 0 (Table 9-13: m 23, n 33) at [`QP`].
    fn first() -> Self {
        Self((((23 * QP) >> 4) + 33 - 64) as usize)
    }
}

/// The arithmetic encoder of §9.3.4.2, as far as such a slice needs it.
struct Coder {
    out: BitWriter,
    low: u32,
    range: u32,
    outstanding: u32,
    first: bool,
}

impl Coder {
    /// `mb_skip_flag` of 1, always the more probable value here (§9.3.4.2).
    fn skip(&mut self, state: &mut State) {
        let row = state.0.saturating_sub(FIRST_STATE).min(RANGE_LPS.len() - 1);
        self.range -= u32::from(RANGE_LPS[row][(self.range >> 6 & 3) as usize]);
        state.0 = (state.0 + 1).min(LAST_STATE);
        self.renormalise();
    }

    /// `end_of_slice_flag` (§9.3.4.5). The last bit written is `rbsp_stop_one_bit`.
    fn end(&mut self, end: bool) {
        self.range -= 2;
        if end {
            self.low += self.range;
            self.range = 2;
        }
        self.renormalise();
        if end {
            self.put(self.low >> 9 & 1 == 1);
            self.out.bits((self.low >> 7 & 3) | 1, 2);
        }
    }

    /// §9.3.4.3.
    fn renormalise(&mut self) {
        while self.range < 256 {
            if self.low < 256 {
                self.put(false);
            } else if self.low >= 512 {
                self.low -= 512;
                self.put(true);
            } else {
                self.low -= 256;
                self.outstanding += 1;
            }
            self.range <<= 1;
            self.low <<= 1;
        }
    }

    /// §9.3.4.4: the very first bit is not written.
    fn put(&mut self, bit: bool) {
        if !std::mem::take(&mut self.first) {
            self.out.bit(bit);
        }
        for _ in 0..std::mem::take(&mut self.outstanding) {
            self.out.bit(!bit);
        }
    }
}

/// The state that [`State::first`] gives.
const FIRST_STATE: usize = 42;
const LAST_STATE: usize = 62;
/// `rangeTabLPS` (Table 9-44) from [`FIRST_STATE`] to [`LAST_STATE`].
const RANGE_LPS: [[u8; 4]; LAST_STATE - FIRST_STATE + 1] = [
    [16, 20, 23, 27],
    [15, 19, 22, 25],
    [14, 18, 21, 24],
    [14, 17, 20, 23],
    [13, 16, 19, 22],
    [12, 15, 18, 21],
    [12, 14, 17, 20],
    [11, 14, 16, 19],
    [11, 13, 15, 18],
    [10, 12, 15, 17],
    [10, 12, 14, 16],
    [9, 11, 13, 15],
    [9, 11, 12, 14],
    [8, 10, 12, 14],
    [8, 9, 11, 13],
    [7, 9, 11, 12],
    [7, 9, 10, 12],
    [7, 8, 10, 11],
    [6, 8, 9, 11],
    [6, 7, 9, 10],
    [6, 7, 8, 9],
];
