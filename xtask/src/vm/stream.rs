//! The command's output on its way through the guest, which marks its end.

/// Passes bytes on until the end mark, however the stream is cut into pieces.
///
/// # Why
/// The exit status travels on another channel and may overtake the last output; only the output
/// itself can say that it is complete.
#[derive(Debug)]
pub(super) struct Stream {
    end_mark: Vec<u8>,
    held: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub(super) fn new(end_mark: &str) -> Self {
        Self {
            end_mark: end_mark.as_bytes().to_vec(),
            held: Vec::new(),
            ended: false,
        }
    }

    /// What can be passed on now that `bytes` came. A piece that may be the start of the end mark
    /// is held back until the next.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.ended {
            return Vec::new();
        }
        self.held.extend_from_slice(bytes);
        let mark = self.end_mark.as_slice();
        let end = self
            .held
            .windows(mark.len())
            .position(|window| window == mark);
        self.ended = end.is_some();
        let passed = end.unwrap_or_else(|| {
            let longest = self.held.len().min(mark.len() - 1);
            let held = (0..=longest)
                .rev()
                .find(|&length| self.held.ends_with(&mark[..length]));
            self.held.len() - held.unwrap_or(0)
        });
        self.held.drain(..passed).collect()
    }

    /// What was held back, when the stream broke off before its end mark.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        if self.ended {
            Vec::new()
        } else {
            std::mem::take(&mut self.held)
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_passes_at_once_when_it_does_not_look_like_the_mark() {
        let mut stream = Stream::new("END");

        assert_eq!(stream.feed(b"hello\n"), b"hello\n");
        assert!(!stream.has_ended());
    }

    #[test]
    fn the_mark_is_found_wherever_the_stream_is_cut() {
        let text = b"one ENone EEND";
        for cut in 0..text.len() {
            let mut stream = Stream::new("END");

            let mut passed = stream.feed(&text[..cut]);
            passed.extend(stream.feed(&text[cut..]));

            assert_eq!(passed, b"one ENone E", "cut at {cut}");
            assert!(stream.has_ended());
        }
    }

    #[test]
    fn nothing_passes_after_the_mark() {
        let mut stream = Stream::new("END");

        assert_eq!(stream.feed(b"xENDy"), b"x");
        assert!(stream.feed(b"z").is_empty() && stream.rest().is_empty());
    }

    #[test]
    fn a_broken_stream_gives_what_was_held_back() {
        let mut stream = Stream::new("END");

        assert_eq!(stream.feed(b"the EN"), b"the ");
        assert_eq!(stream.rest(), b"EN");
    }
}
