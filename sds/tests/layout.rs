//! The layout against bytes known from Redis, and against itself for every class and limit.

use proptest::prelude::*;
use sds::{
    Class, HEADER_LEN_MAX, Header, allocation_range, data, data_range, read_backward, total_len, write,
};

const CLASSES: [Class; 5] = [Class::Five, Class::Eight, Class::Sixteen, Class::ThirtyTwo, Class::SixtyFour];

#[test]
fn the_bytes_are_those_of_redis() {
    let mut out = [0xaa; 64];
    // sdshdr5: flags = len << 3 | SDS_TYPE_5.
    assert_eq!(write(&mut out, b"foo"), 5);
    assert_eq!(&out[..5], b"\x18foo\0");
    assert_eq!(write(&mut out, b""), 2);
    assert_eq!(&out[..2], b"\0\0");
    assert_eq!(write(&mut out, &[b'x'; 31]), 33);
    assert_eq!((out[0], out[32]), (0xf8, 0));
    // sdshdr8: len, alloc, SDS_TYPE_8.
    assert_eq!(write(&mut out, &[b'x'; 32]), 36);
    assert_eq!((&out[..4], out[35]), (&b"\x20\x20\x01x"[..], 0));
}

#[test]
fn the_wide_headers_are_those_of_redis() {
    let cases: [(usize, usize, &[u8]); 6] = [
        (3, 10, b"\x03\x0a\x01"),
        (0x0102, 0x0102, b"\x02\x01\x02\x01\x02"),
        (5, 0x1234, b"\x05\x00\x34\x12\x02"),
        (0x0001_0000, 0x0001_0000, b"\x00\x00\x01\x00\x00\x00\x01\x00\x03"),
        (7, 0xffff_ffff, b"\x07\x00\x00\x00\xff\xff\xff\xff\x03"),
        (1, 0x01_0000_0000, b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04"),
    ];
    for (len, capacity, bytes) in cases {
        let mut out = [0; HEADER_LEN_MAX];
        let written = Header::with_capacity(len, capacity).encode(&mut out);
        assert_eq!(&out[..written], bytes, "len {len} capacity {capacity}");
    }
}

#[test]
fn the_class_changes_exactly_where_redis_changes_it() {
    for pair in CLASSES.windows(2) {
        let limit = pair[0].len_max();
        assert_eq!(Class::for_len(limit), pair[0]);
        assert_eq!(Class::for_len(limit + 1), pair[1]);
    }
    assert_eq!(Class::for_len(usize::MAX), Class::SixtyFour);
}

#[test]
fn spare_capacity_is_never_hidden_in_a_class_that_cannot_record_it() {
    let header = Header::with_capacity(3, 8);
    assert_eq!((header.class(), header.len(), header.capacity()), (Class::Eight, 3, 8));
    assert_eq!(Header::with_capacity(8, 8).class(), Class::Five);
}

#[test]
fn a_string_grows_in_place_only_as_far_as_its_header_can_say() {
    assert_eq!(Header::for_len(3).resized(31), Some(Header::for_len(31)));
    assert_eq!(Header::for_len(3).resized(32), None);
    let roomy = Header::with_capacity(3, 100);
    assert_eq!(roomy.resized(100).map(Header::len), Some(100));
    assert_eq!(roomy.resized(101), None);
}

#[test]
fn a_length_beyond_the_capacity_is_no_header() {
    assert_eq!(read_backward(b"\x09\x03\x01", 3), None);
    for flags in 5..8 {
        assert_eq!(read_backward(&[1, 1, flags], 3), None, "class {flags} does not exist");
    }
    assert_eq!(read_backward(b"", 0), None);
    assert_eq!(read_backward(b"\x03\x01", 2), None, "begins before the bytes");
    assert_eq!(data(b"\x18fo", 1), None, "runs past the bytes");
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(value in prop::collection::vec(any::<u8>(), 0..70_000), front in 0usize..32) {
        let mut out = vec![0xaa; front + total_len(value.len())];
        prop_assert_eq!(write(&mut out[front..], &value), total_len(value.len()));
        let data_offset = front + Class::for_len(value.len()).header_len();
        prop_assert_eq!(read_backward(&out, data_offset), Some(Header::for_len(value.len())));
        prop_assert_eq!(data(&out, data_offset), Some(&value[..]));
        prop_assert_eq!(out.last(), Some(&0));
    }

    #[test]
    fn every_header_survives_its_bytes(bits in 0u32..64, len: u64, spare: u64) {
        let len = (len >> bits) as usize;
        let capacity = len.saturating_add((spare >> bits) as usize);
        let header = Header::with_capacity(len, capacity);
        let mut out = [0; HEADER_LEN_MAX];
        let written = header.encode(&mut out);
        prop_assert_eq!(written, header.class().header_len());
        prop_assert_eq!(Header::decode_at(&out, written), Some(header));
        prop_assert_eq!(Header::decode_leading(&out, header.class()), Some(header));
    }

    #[test]
    fn the_ranges_are_exact(len in 0u64..1 << 40, spare in 0u64..1000, addr in 64u64..1 << 60) {
        let header = Header::with_capacity(len as usize, (len + spare) as usize);
        prop_assert_eq!(data_range(header, addr), addr..addr + len);
        let whole = allocation_range(header, addr);
        prop_assert_eq!((whole.end - whole.start) as usize, header.total_len());
        prop_assert_eq!(whole.end, addr + len + spare + 1);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), offset in 0usize..50) {
        let _ = read_backward(&bytes, offset);
        let _ = data(&bytes, offset);
    }
}
