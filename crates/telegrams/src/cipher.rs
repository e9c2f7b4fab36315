//! What meters encrypt with: AES-128 in GCM (DLMS, P1), CBC and CTR (wM-Bus), CMAC (key derivation), key wrap (RFC 3394).

use aes::{
    Aes128,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use aes_gcm::{
    AesGcm,
    aead::{AeadInOut, consts::U12},
};
use alloc::vec::Vec;

/// An AES-128 key.
pub type Key = [u8; 16];
/// Length of the authentication tag of DLMS in bytes.
pub const TAG: usize = 12;

/// The two global keys of a meter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Encryption key.
    pub encryption: Key,
    /// Authentication key; zeros where the operator gives none.
    pub authentication: Option<Key>,
}

impl core::fmt::Debug for Keys {
    /// Keys are not shown.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys(..)")
    }
}

type Gcm = AesGcm<Aes128, U12, U12>;

fn gcm(key: &Key) -> Gcm {
    Gcm::new(key.into())
}

/// AES-GCM with a 12-byte tag behind the ciphertext.
pub fn gcm_seal(key: &Key, nonce: &[u8; 12], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = plain.to_vec();
    match gcm(key).encrypt_inout_detached(nonce.into(), associated, out.as_mut_slice().into()) {
        Ok(tag) => out.extend_from_slice(tag.as_slice()),
        // Only beyond 64 GiB, which no APDU reaches.
        Err(_) => out.clear(),
    }
    out
}

/// The plain text, when the tag behind the ciphertext is right.
pub fn gcm_open(key: &Key, nonce: &[u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (cipher, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG)?)?;
    let tag: [u8; TAG] = tag.try_into().ok()?;
    let mut out = cipher.to_vec();
    gcm(key).decrypt_inout_detached(nonce.into(), associated, out.as_mut_slice().into(), (&tag).into()).ok()?;
    Some(out)
}

/// GCM without a tag (security control 20): encrypts and decrypts alike.
pub fn gcm_stream(key: &Key, nonce: &[u8; 12], text: &[u8]) -> Vec<u8> {
    let mut counter = [0; 16];
    counter[..12].copy_from_slice(nonce);
    counter[15] = 2;
    ctr(key, counter, text)
}

/// One block of AES.
pub fn encrypt_block(key: &Key, block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    Aes128::new(key.into()).encrypt_block(&mut block);
    block.into()
}

/// AES-CTR with a 128-bit counter that starts at `counter`.
pub fn ctr(key: &Key, counter: [u8; 16], text: &[u8]) -> Vec<u8> {
    let aes = Aes128::new(key.into());
    let mut count = u128::from_be_bytes(counter);
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.chunks(16) {
        let mut block = count.to_be_bytes().into();
        aes.encrypt_block(&mut block);
        out.extend(chunk.iter().zip(block).map(|(byte, mask)| byte ^ mask));
        count = count.wrapping_add(1);
    }
    out
}

/// AES-CBC without padding; `None` when the length is no multiple of 16.
pub fn cbc_decrypt(key: &Key, vector: [u8; 16], text: &[u8]) -> Option<Vec<u8>> {
    let aes = Aes128::new(key.into());
    let (blocks, rest) = text.as_chunks::<16>();
    rest.is_empty().then_some(())?;
    let mut before = vector;
    let mut out = Vec::with_capacity(text.len());
    for block in blocks {
        let mut plain = (*block).into();
        aes.decrypt_block(&mut plain);
        out.extend(plain.iter().zip(before).map(|(byte, mask)| byte ^ mask));
        before = *block;
    }
    Some(out)
}

/// AES-CBC without padding, as a meter encrypts; what is behind the last whole block is left out.
pub fn cbc_encrypt(key: &Key, vector: [u8; 16], text: &[u8]) -> Vec<u8> {
    let mut before = vector;
    let mut out = Vec::with_capacity(text.len());
    for block in text.as_chunks::<16>().0 {
        before = encrypt_block(key, (u128::from_be_bytes(before) ^ u128::from_be_bytes(*block)).to_be_bytes());
        out.extend_from_slice(&before);
    }
    out
}

/// AES-CMAC (RFC 4493).
pub fn cmac(key: &Key, message: &[u8]) -> [u8; 16] {
    let double = |block: [u8; 16]| {
        let value = u128::from_be_bytes(block);
        ((value << 1) ^ if value >> 127 == 1 { 0x87 } else { 0 }).to_be_bytes()
    };
    let first = double(encrypt_block(key, [0; 16]));
    let whole = !message.is_empty() && message.len().is_multiple_of(16);
    let (body, last) = message.split_at(message.len().saturating_sub(1) / 16 * 16);
    let mut end = [0; 16];
    end[..last.len()].copy_from_slice(last);
    if !whole {
        end[last.len()] = 0x80;
    }
    let mask = if whole { first } else { double(first) };
    let xor = |a: [u8; 16], b: [u8; 16]| (u128::from_be_bytes(a) ^ u128::from_be_bytes(b)).to_be_bytes();
    let chained = body.as_chunks::<16>().0.iter().fold([0; 16], |state, block| encrypt_block(key, xor(state, *block)));
    encrypt_block(key, xor(chained, xor(end, mask)))
}

const WRAP_START: [u8; 8] = [0xA6; 8];

/// AES key wrap (RFC 3394) of one 128-bit key, as Security setup's key_transfer wants it.
pub fn wrap_key(kek: &Key, key: &Key) -> [u8; 24] {
    let (mut head, mut halves) = (WRAP_START, [[0; 8]; 2]);
    halves[0].copy_from_slice(&key[..8]);
    halves[1].copy_from_slice(&key[8..]);
    for step in 0..12_u64 {
        let half = &mut halves[usize::from(step % 2 == 1)];
        let mut block = [0; 16];
        block[..8].copy_from_slice(&head);
        block[8..].copy_from_slice(half);
        let block = encrypt_block(kek, block);
        let (high, low) = block.split_at(8);
        head = (u64::from_be_bytes(high.try_into().unwrap_or_default()) ^ (step + 1)).to_be_bytes();
        half.copy_from_slice(low);
    }
    let mut out = [0; 24];
    out[..8].copy_from_slice(&head);
    out[8..16].copy_from_slice(&halves[0]);
    out[16..].copy_from_slice(&halves[1]);
    out
}

/// The key in a wrapped one; `None` when it was wrapped with another key or damaged.
pub fn unwrap_key(kek: &Key, wrapped: &[u8; 24]) -> Option<Key> {
    let aes = Aes128::new(kek.into());
    let mut head: [u8; 8] = wrapped[..8].try_into().ok()?;
    let mut halves: [[u8; 8]; 2] = [wrapped[8..16].try_into().ok()?, wrapped[16..].try_into().ok()?];
    for step in (0..12_u64).rev() {
        let half = &mut halves[usize::from(step % 2 == 1)];
        let mut block = [0; 16];
        block[..8].copy_from_slice(&(u64::from_be_bytes(head) ^ (step + 1)).to_be_bytes());
        block[8..].copy_from_slice(half);
        let mut block = block.into();
        aes.decrypt_block(&mut block);
        let (high, low) = block.split_at(8);
        head = high.try_into().ok()?;
        half.copy_from_slice(low);
    }
    let mut key = [0; 16];
    key[..8].copy_from_slice(&halves[0]);
    key[8..].copy_from_slice(&halves[1]);
    (head == WRAP_START).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{from_hex, hex};

    fn key(text: &str) -> Key {
        from_hex(text).expect("hexadecimal").try_into().expect("16 bytes")
    }

    #[test]
    fn key_wrap_of_rfc_3394() {
        let (kek, inner) = (key("000102030405060708090A0B0C0D0E0F"), key("00112233445566778899AABBCCDDEEFF"));
        let wrapped = wrap_key(&kek, &inner);
        assert_eq!(hex(&wrapped), "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5");
        assert_eq!(unwrap_key(&kek, &wrapped), Some(inner));
        assert_eq!(unwrap_key(&inner, &wrapped), None);
    }

    #[test]
    fn cmac_of_rfc_4493() {
        let k = key("2b7e151628aed2a6abf7158809cf4f3c");
        let text =
            from_hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411").expect("hex");
        assert_eq!(hex(&cmac(&k, &[])), "bb1d6929e95937287fa37d129b756746");
        assert_eq!(hex(&cmac(&k, &text[..16])), "070a16b46b4d4144f79bdd9dd04a287c");
        assert_eq!(hex(&cmac(&k, &text)), "dfa66747de9ae63030ca32611497c827");
    }

    #[test]
    fn gcm_opens_what_it_sealed_and_nothing_else() {
        let (k, nonce) = (key("000102030405060708090A0B0C0D0E0F"), [7; 12]);
        let sealed = gcm_seal(&k, &nonce, b"head", b"a telegram");
        assert_eq!(gcm_open(&k, &nonce, b"head", &sealed).as_deref(), Some(&b"a telegram"[..]));
        assert_eq!(gcm_stream(&k, &nonce, &sealed[..10]), b"a telegram");
        assert_eq!(gcm_open(&k, &nonce, b"other", &sealed), None);
    }
}
