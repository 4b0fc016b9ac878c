//! Numbers against the tables of Redis.

use super::*;
use alloc::string::{String, ToString};
use proptest::prelude::*;

fn f64_text(value: f64) -> String {
    let mut out = Vec::new();
    write_f64(&mut out, value);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_integer_is_only_what_redis_takes_for_one() {
    for (text, expected) in [
        ("0", Some(0)),
        ("-1", Some(-1)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("99999999999999999999", None),
        ("18446744073709551616", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("00", None),
        ("01", None),
        ("-01", None),
        ("+1", None),
        (" 1", None),
        ("1 ", None),
        ("1.0", None),
        ("1e3", None),
        ("0x1", None),
    ] {
        assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn a_double_has_the_seventeen_digits_of_printf() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.10000000000000001"),
        (2.3, "2.2999999999999998"),
        (1e16, "10000000000000000"),
        (1e17, "1e+17"),
        (123456789012345680.0, "1.2345678901234568e+17"),
        (0.0001, "0.0001"),
        (0.00001, "1.0000000000000001e-05"),
        (1e100, "1e+100"),
        (5e-324, "4.9406564584124654e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (100.0, "100"),
    ] {
        assert_eq!(f64_text(value), expected);
    }
}

fn sum(left: &str, right: &str) -> Option<String> {
    let mut out = Vec::new();
    LongDouble::parse(left.as_bytes())?
        .checked_add(LongDouble::parse(right.as_bytes())?)?
        .write_human(&mut out);
    Some(String::from_utf8(out).unwrap())
}

/// Made by redis-server 7.0.15: SET x left, INCRBYFLOAT x right, GET x.
#[test]
fn sums_have_the_digits_of_redis() {
    for (left, right, expected) in [
        ("10.5", "0.1", "10.6"),
        ("5.0e3", "2.0e2", "5200"),
        ("3", "1.1", "4.1"),
        ("3.0", "1.000000000000000005", "4.00000000000000001"),
        ("0.1", "0.2", "0.3"),
        ("1", "0", "1"),
        ("-0", "-0", "0"),
        ("-1", "1", "0"),
        ("1e17", "0.1", "100000000000000000.1015625"),
        ("1e30", "1", "1000000000000000000024696061952"),
        ("-1e-18", "0", "0"),
        ("-1e-30", "0", "0"),
        ("5e-18", "0", "0"),
        ("15e-18", "0", "0.00000000000000002"),
        ("0.000000000000000005", "0", "0"),
        ("17179869184", "1.5", "17179869185.5"),
        ("9223372036854775807", "1", "9223372036854775808"),
        ("18446744073709551615", "1", "18446744073709551616"),
        ("18446744073709551616", "0.5", "18446744073709551616"),
        ("18446744073709551617", "0", "18446744073709551616"),
        ("1.5e2", "-0x10", "134"),
        ("0x1.8p3", "0", "12"),
        ("1e-4950", "0", "0"),
        ("3.0e3", "-3.0e3", "0"),
        (".5", "5.", "5.5"),
        ("+1", "+1", "2"),
        ("100", "-99.99", "0.01"),
        ("1e18", "1e-3", "1000000000000000000"),
        ("9999999999999999.9", "0.1", "10000000000000000"),
        ("1234567.891", "0.0000001", "1234567.89100009999992835"),
        ("1e-4", "1e-17", "0.00010000000000001"),
        ("0.1", "-0.3", "-0.2"),
        ("36893488147419103233", "-36893488147419103232", "0"),
    ] {
        assert_eq!(sum(left, right).as_deref(), Some(expected), "{left} + {right}");
    }
}

#[test]
fn what_strtold_does_not_take_whole_is_no_float() {
    for text in [
        "",
        "abc",
        " 1",
        "1 ",
        "1e",
        "1e+",
        "0x",
        "0x1p",
        "nan",
        "--1",
        "+-1",
        "1..2",
        "1.2.3",
        "e5",
        ".",
        "1e5000",
        "1e-5000",
        "0x1p-20000",
        "1\0",
        "1e99999999999999999999",
    ] {
        assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
    }
    assert_eq!(LongDouble::parse(&[b'1'; 5120]), None, "Redis' buffer has no room for it");
}

#[test]
fn a_sum_that_is_no_number_is_refused() {
    for (left, right) in [("inf", "1"), ("-inf", "inf"), ("1e4932", "1e4932"), ("-1.1e4932", "-1e4932")] {
        assert!(
            LongDouble::parse(left.as_bytes()).is_some() && LongDouble::parse(right.as_bytes()).is_some()
        );
        assert_eq!(sum(left, right), None, "{left} + {right}");
    }
}

proptest! {
    #[test]
    fn integers_add_exactly(left in -(1i64 << 61)..1 << 61, right in -(1i64 << 61)..1 << 61) {
        prop_assert_eq!(sum(&left.to_string(), &right.to_string()), Some((left + right).to_string()));
    }

    #[test]
    fn any_text_parses_or_does_not(text in "[-+]?[0-9a-fxp.e]{0,12}") {
        let _ = sum(&text, "1");
    }

    #[test]
    fn every_integer_comes_back(value: i64) {
        prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
    }

    #[test]
    fn what_parses_prints_the_same(text in "-?[0-9]{0,21}") {
        if let Some(value) = parse_i64(text.as_bytes()) {
            prop_assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn seventeen_digits_are_enough_for_every_double(bits: u64) {
        let value = f64::from_bits(bits);
        if value.is_finite() {
            prop_assert_eq!(f64_text(value).parse::<f64>().unwrap().to_bits(), bits);
        }
    }
}
