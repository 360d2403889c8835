//! `Frames` of peer.proto, decoded with a bound: a message of 16 MiB can hold millions of frames of a
//! few bytes, and each takes a hundred times that once it is decoded.

use prost::DecodeError;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, message, skip_field, uint32};

/// Most frames of one message. Who gets more sees one more than this, and no further.
pub const FRAMES_MAX: usize = 65_536;

/// Many frames, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frames {
    /// 1.
    pub format: u32,
    /// The frames; one more than [`FRAMES_MAX`] when there were too many.
    pub frames: Vec<crate::node::Frame>,
}

const FORMAT: u32 = 1;
const FRAMES: u32 = 2;

impl Message for Frames {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.format != 0 {
            uint32::encode(FORMAT, &self.format, buf);
        }
        message::encode_repeated(FRAMES, &self.frames, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            FORMAT => uint32::merge(wire_type, &mut self.format, buf, ctx),
            FRAMES if self.frames.len() <= FRAMES_MAX => {
                message::merge_repeated(wire_type, &mut self.frames, buf, ctx)
            }
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let format = match self.format {
            0 => 0,
            format => uint32::encoded_len(FORMAT, &format),
        };
        format + message::encoded_len_repeated(FRAMES, &self.frames)
    }

    fn clear(&mut self) {
        *self = Frames::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Frame, Ping, frame::Body};

    fn pings(count: usize) -> Frames {
        let ping = |id| Frame {
            id,
            body: Some(Body::Ping(Ping::default())),
            ..Frame::default()
        };
        Frames {
            format: 1,
            frames: (1..).take(count).map(ping).collect(),
        }
    }

    #[test]
    fn frames_come_back_as_they_were_sent() {
        for count in [0, 1, 3, FRAMES_MAX] {
            let sent = pings(count);
            let bytes = sent.encode_to_vec();
            assert_eq!(bytes.len(), sent.encoded_len());
            assert_eq!(Frames::decode(&bytes[..]).unwrap(), sent);
        }
    }

    #[test]
    fn of_too_many_frames_one_more_is_decoded_and_no_further() {
        let bytes = pings(2 * FRAMES_MAX).encode_to_vec();
        let decoded = Frames::decode(&bytes[..]).unwrap();
        assert_eq!(decoded, pings(FRAMES_MAX + 1));
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_an_error() {
        let bytes = pings(3).encode_to_vec();
        assert!(Frames::decode(&bytes[..bytes.len() - 1]).is_err());
        // The frames as a number.
        assert!(Frames::decode(&[0x10, 0x01][..]).is_err());
    }
}
