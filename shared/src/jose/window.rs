//! Which numbers a connection has taken: a sliding window, as RFC 4303 §3.4.3 describes it for IPsec.

const WORD: u64 = u64::BITS as u64;

/// The numbers `n` of one connection's tokens: each is taken once. Those that are [`WIDTH`](Self::WIDTH) or more below the highest one count as taken,
/// so requests that run beside each other may arrive in any order within that distance.
#[derive(Debug)]
pub struct Window {
    /// The highest number that was taken; 0 before the first.
    top: u64,
    /// Bit `n mod WIDTH` of the ring: whether `n` was taken, for `top - WIDTH < n <= top`.
    taken: [u64; (Self::WIDTH / WORD) as usize],
}

impl Window {
    /// How many numbers are told apart.
    pub const WIDTH: u64 = 1024;

    /// Nothing was taken yet.
    #[must_use]
    pub fn new() -> Self {
        Self { top: 0, taken: [0; (Self::WIDTH / WORD) as usize] }
    }

    /// Takes `n`. `false` when it was taken before, or is too far below the highest one to tell.
    #[must_use]
    pub fn admit(&mut self, n: u64) -> bool {
        if n > self.top {
            // What the window moves over is not taken: all of the ring after a jump.
            for skipped in (self.top + 1..=n).rev().take(Self::WIDTH as usize) {
                *self.word(skipped) &= !bit(skipped);
            }
            self.top = n;
        } else if self.top - n >= Self::WIDTH || *self.word(n) & bit(n) != 0 {
            return false;
        }
        *self.word(n) |= bit(n);
        true
    }

    fn word(&mut self, n: u64) -> &mut u64 {
        &mut self.taken[(n % Self::WIDTH / WORD) as usize]
    }
}

fn bit(n: u64) -> u64 {
    1 << (n % WORD)
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}
