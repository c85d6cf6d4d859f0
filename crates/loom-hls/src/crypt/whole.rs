use aes::Aes128;
use aes::cipher::{Block, BlockModeEncrypt, KeyIvInit};

use crate::crypt::KeyBytes;

/// AES-128 in CBC mode with PKCS #7 padding (RFC 8216bis §4.4.4.4), a piece at a time.
pub(crate) struct Cbc {
    mode: cbc::Encryptor<Aes128>,
    /// Less than a block that waits for more.
    rest: Vec<u8>,
}

impl Cbc {
    pub(crate) fn new(key: &KeyBytes, iv: &[u8; 16]) -> Self {
        Self {
            mode: cbc::Encryptor::new(&(*key.expose()).into(), &(*iv).into()),
            rest: Vec::with_capacity(BLOCK),
        }
    }

    /// Encrypts as many whole blocks as there are by now.
    pub(crate) fn update(&mut self, data: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(data);
        self.rest = all.split_off(all.len() / BLOCK * BLOCK);
        encrypt(&mut self.mode, &mut all);
        all
    }

    /// The last block, padded: a whole one where nothing is left.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut last = std::mem::take(&mut self.rest);
        let pad = BLOCK - last.len();
        last.resize(BLOCK, pad as u8);
        encrypt(&mut self.mode, &mut last);
        last
    }
}

impl std::fmt::Debug for Cbc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cbc(…)")
    }
}

/// A piece by itself.
pub(crate) fn seal(key: &KeyBytes, iv: &[u8; 16], data: &[u8]) -> Vec<u8> {
    let mut mode = Cbc::new(key, iv);
    let mut out = mode.update(data);
    out.extend(mode.finish());
    out
}

fn encrypt(mode: &mut cbc::Encryptor<Aes128>, blocks: &mut [u8]) {
    for block in blocks.chunks_exact_mut(BLOCK) {
        if let Ok(block) = <&mut Block<Aes128>>::try_from(block) {
            mode.encrypt_block(block);
        }
    }
}

pub(super) const BLOCK: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_vectors_of_nist_sp_800_38a_come_out_whatever_the_pieces() {
        // F.2.1, CBC-AES128.Encrypt
        let key = KeyBytes::new(bytes("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap());
        let iv: [u8; 16] = bytes("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let plain = bytes(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let sealed = bytes(
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        );
        for step in [1, 7, 16, 33, 64] {
            let mut mode = Cbc::new(&key, &iv);
            let mut out: Vec<u8> = plain.chunks(step).flat_map(|piece| mode.update(piece)).collect();
            assert_eq!(out, sealed, "{step}");
            out.extend(mode.finish());
            assert_eq!(out.len(), sealed.len() + 16);
            assert_eq!(seal(&key, &iv, &plain), out);
        }
    }
}
