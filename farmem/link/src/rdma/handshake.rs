//! Both halves of the handshake, over any stream of bytes.
//!
//! ```text
//!   link: ask      greeting ─► hello ─► answer        node: hear ─► Asked ─► accept or refuse
//! ```
//!
//! Refuses to wait: how long a read may take is the stream's business.

use super::proto::{Answer, Greeting, Hello, Nonce, Refusal, Secret, Side, receive, send};
use crate::nbd::proto::Generation;
use std::io::{self, Read, Write};

/// A link's half: asks for an export, and answers what the node lends.
///
/// # Errors
/// What the stream answers; the refusal of either side in words.
pub fn ask(
    mut stream: impl Read + Write,
    secret: &Secret,
    nonce: Nonce,
    side: Side,
    export: &str,
) -> io::Result<Answer> {
    let greeting: Greeting = receive(&mut stream)?;
    greeting.check()?;
    let hello = Hello::new(secret, &greeting, nonce, side, export)?;
    send(&mut stream, &hello)?;
    let answer: Answer = receive(&mut stream)?;
    answer.check(secret, &greeting, &nonce)?;
    Ok(answer)
}

/// A link that knows the secret, and waits for an answer.
pub struct Asked {
    /// The export that it wants.
    pub export: String,
    /// How to reach it.
    pub side: Side,
    greeting: Greeting,
    nonce: Nonce,
}

/// The first part of a node's half: what the link wants. Whoever does not know the secret is told so, and no more.
///
/// # Errors
/// What the stream answers; the refusal in words, which the link has been told.
pub fn hear(mut stream: impl Read + Write, secret: &Secret, nonce: Nonce) -> io::Result<Asked> {
    let greeting = Greeting::new(nonce);
    send(&mut stream, &greeting)?;
    let hello: Hello = receive(&mut stream)?;
    match hello.check(secret, &greeting) {
        Ok(export) => Ok(Asked { export: export.into(), side: hello.side, greeting, nonce: hello.nonce }),
        Err(why) => {
            send(&mut stream, &Answer::refuse(why))?;
            Err(why.into())
        }
    }
}

impl Asked {
    /// Lends a memory: where it is, how long, and its key.
    ///
    /// # Errors
    /// What the stream answers.
    pub fn accept(
        &self,
        to: impl Write,
        secret: &Secret,
        side: Side,
        lent: (u64, u64, u32),
        generation: Generation,
    ) -> io::Result<()> {
        let answer = Answer::accept(side, lent, generation);
        send(to, &answer.sealed(secret, &self.greeting, &self.nonce))
    }

    /// Lends nothing.
    ///
    /// # Errors
    /// The refusal in words, once the link has been told.
    pub fn refuse(&self, to: impl Write, why: Refusal) -> io::Error {
        match send(to, &Answer::refuse(why)) {
            Ok(()) => why.into(),
            Err(error) => error,
        }
    }
}
