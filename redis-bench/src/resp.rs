//! The client's side of RESP2: requests appended ready-made, replies scanned without being built.
//!
//! ```text
//!             line                 bulk bytes + CRLF
//!   idle ───────────► $len ──► skip ───────────────► element done ─► reply done
//!    ▲                *n   ──► n more elements ──────────▲ │
//!    └─────────────────────────────────────────────────────┘
//! ```
//!
//! A reply costs its lines and one addition a bulk: bulk bytes are skipped, not copied. Refuses RESP3
//! types, which no server sends unasked, and arrays nested deeper than [`DEPTH_MAX`].

/// Arrays inside arrays that a scan follows: no command of the workloads has more than one level.
pub const DEPTH_MAX: usize = 8;
/// Bytes of the longest line (status, error or length): an error text is a sentence, not a page.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// What kind of reply came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `+OK`
    Simple,
    /// `-ERR ...`
    Error,
    /// `:1`
    Integer,
    /// `$3`
    Bulk,
    /// `$-1` or `*-1`
    Nil,
    /// `*2`
    Array,
}

/// The measure of one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Of the outermost frame.
    pub kind: Kind,
    /// The value of an integer reply, else 0.
    pub integer: i64,
    /// Elements of the outermost array, else 0.
    pub elements: u64,
    /// Bytes of all bulk strings in it.
    pub payload_bytes: u64,
}

/// The bytes are not RESP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Where in a stream of replies one connection is.
#[derive(Debug)]
pub struct Scanner {
    reply: Option<Reply>,
    left: [u64; DEPTH_MAX],
    depth: usize,
    skip: u64,
    line: Vec<u8>,
    error: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner { reply: None, left: [0; DEPTH_MAX], depth: 0, skip: 0, line: Vec::new(), error: Vec::new() }
    }
}

impl Scanner {
    /// Consumes `input` up to the end of the current reply; returns the bytes used and the reply if it ended.
    ///
    /// # Errors
    /// [`Malformed`]: the connection cannot be used further.
    #[inline]
    pub fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        let mut at = 0;
        while at < input.len() {
            let done = if self.skip > 0 {
                let taken = self.skip.min((input.len() - at) as u64);
                self.skip -= taken;
                at += taken as usize;
                self.skip == 0
            } else {
                let rest = &input[at..];
                let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                    self.line.extend_from_slice(rest);
                    return if self.line.len() > LINE_BYTES_MAX {
                        Err(Malformed)
                    } else {
                        Ok((input.len(), None))
                    };
                };
                at += end + 1;
                if self.line.is_empty() {
                    self.take_line(&rest[..end])?
                } else {
                    let mut line = std::mem::take(&mut self.line);
                    line.extend_from_slice(&rest[..end]);
                    let done = self.take_line(&line)?;
                    line.clear();
                    self.line = line;
                    done
                }
            };
            if done && self.close_elements() {
                return Ok((at, self.reply.take()));
            }
        }
        Ok((at, None))
    }

    /// Text of the last error reply, without its `-`.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.error).into_owned()
    }

    /// Takes one line (without its LF); true if it completes an element.
    #[inline]
    fn take_line(&mut self, line: &[u8]) -> Result<bool, Malformed> {
        let [sort, text @ .., b'\r'] = line else { return Err(Malformed) };
        let mut integer = 0;
        let mut elements = 0;
        let (kind, done) = match sort {
            b'$' => match number(text)? {
                -1 => (Kind::Nil, true),
                len => {
                    let len = u64::try_from(len).map_err(|_| Malformed)?;
                    self.skip = len + 2;
                    if let Some(reply) = &mut self.reply {
                        reply.payload_bytes += len;
                        return Ok(false);
                    }
                    self.reply = Some(Reply { kind: Kind::Bulk, integer, elements, payload_bytes: len });
                    return Ok(false);
                }
            },
            b'*' => match number(text)? {
                -1 => (Kind::Nil, true),
                0 => (Kind::Array, true),
                count => {
                    elements = u64::try_from(count).map_err(|_| Malformed)?;
                    *self.left.get_mut(self.depth).ok_or(Malformed)? = elements;
                    self.depth += 1;
                    (Kind::Array, false)
                }
            },
            b':' => {
                integer = number(text)?;
                (Kind::Integer, true)
            }
            b'+' => (Kind::Simple, true),
            b'-' => {
                self.error.clear();
                self.error.extend_from_slice(text);
                (Kind::Error, true)
            }
            _ => return Err(Malformed),
        };
        self.reply.get_or_insert(Reply { kind, integer, elements, payload_bytes: 0 });
        Ok(done)
    }

    /// Counts an element as done in the arrays around it; true if that ends the reply.
    #[inline]
    fn close_elements(&mut self) -> bool {
        while let Some(left) = self.left[..self.depth].last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.depth -= 1;
        }
        true
    }
}

#[inline]
fn number(text: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return Err(Malformed);
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Malformed);
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Ok(if negative { -value } else { value })
}

/// The bulk strings of one whole reply, a bulk or a flat array of bulks, in order.
///
/// None as soon as something is not as RESP2 writes it: the last item is then `Err`.
pub fn bulks(raw: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    let mut rest = match raw {
        [b'*', ..] => raw.iter().position(|&byte| byte == b'\n').map_or(raw, |end| &raw[end + 1..]),
        _ => raw,
    };
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bulk = split_bulk(rest);
        rest = bulk.map_or(&[], |(_, after)| after);
        Some(bulk.map(|(body, _)| body))
    })
}

fn split_bulk(rest: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Malformed)?;
    let [b'$', text @ .., b'\r'] = &rest[..end] else { return Err(Malformed) };
    let len = usize::try_from(number(text)?).map_err(|_| Malformed)?;
    let (body, after) = rest[end + 1..].split_at_checked(len).ok_or(Malformed)?;
    Ok((body, after.strip_prefix(b"\r\n").ok_or(Malformed)?))
}

/// Appends `front`, which ends in `$16\r\nkey:`, and the key's digits and CRLF.
#[inline]
pub fn push_keyed(out: &mut Vec<u8>, front: &[u8], key: u64) {
    let mut digits = *b"000000000000\r\n";
    let mut left = key;
    for digit in digits[..12].iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    assert!(left == 0, "key {key} does not fit in twelve digits");
    out.extend_from_slice(front);
    out.extend_from_slice(&digits);
}

/// Appends one argument that is a number.
#[inline]
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    push_len(out, digits.len() - at);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends `$len\r\n`.
#[inline]
pub fn push_len(out: &mut Vec<u8>, len: usize) {
    use std::io::Write as _;
    write!(out, "${len}\r\n").expect("a Vec takes every write");
}

/// Appends a whole command of text arguments.
pub fn push_command(out: &mut Vec<u8>, arguments: &[&str]) {
    use std::io::Write as _;
    write!(out, "*{}\r\n", arguments.len()).expect("a Vec takes every write");
    for argument in arguments {
        write!(out, "${}\r\n{argument}\r\n", argument.len()).expect("a Vec takes every write");
    }
}

#[cfg(test)]
mod tests;
