//! Laws of quantities, and texts whose reading is easy to get wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use kurator_core::quantity::{Format, ParseQuantityError, Quantity};
use proptest::prelude::*;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn tricky_texts_have_their_canonical_form() {
    for (text, canonical) in [
        ("0", "0"),
        ("-0", "0"),
        ("0Ki", "0"),
        ("+1", "1"),
        ("1.", "1"),
        (".5", "500m"),
        ("-.5", "-500m"),
        ("1.Gi", "1Gi"),
        ("0001", "1"),
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1025Ki", "1025Ki"),
        ("1024Ki", "1Mi"),
        ("1Ki", "1Ki"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("1.1Ki", "1126400m"),
        ("-1.5Gi", "-1536Mi"),
        ("1Ei", "1Ei"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("1e3", "1e3"),
        ("1e0", "1"),
        ("12e2", "1200"),
        ("1.5e0", "1500e-3"),
        ("1e-3", "1e-3"),
        ("1E-9", "1e-9"),
        ("1e+6", "1e6"),
        ("1000m", "1"),
        ("1000k", "1M"),
        ("12345678901234567890", "12345678901234567890"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775808"),
        ("0.1m", "100u"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("-1.0000000001", "-1000000001n"),
        ("1e-10", "1e-9"),
        ("1e-4000000000000000000000", "1e-9"),
        ("0e4000000000000000000000", "0"),
        ("0.000000000000000000000000000000000000000001E", "1n"),
        ("0.00000000000000000000000000000000000000Ki", "0"),
        ("1e21", "1e21"),
        ("1000E", "1000E"),
    ] {
        assert_eq!(quantity(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn what_the_grammar_does_not_have_is_refused_at_its_offset() {
    for (text, at) in [
        ("", 0),
        ("-", 1),
        ("+", 1),
        (".", 0),
        ("Ki", 0),
        ("--1", 1),
        (" 1", 0),
        ("1 ", 1),
        ("1 Gi", 1),
        ("1K", 1),
        ("1ki", 1),
        ("1Kib", 1),
        ("1.2.3", 3),
        ("1_000", 1),
        ("1,5", 1),
        ("1e", 2),
        ("1e+", 3),
        ("1e1.5", 3),
        ("1eKi", 2),
        ("0x10", 1),
        ("\u{ff11}", 0),
        ("1\u{b5}", 1),
        ("NaN", 0),
        ("inf", 0),
    ] {
        match text.parse::<Quantity>() {
            Err(ParseQuantityError::Syntax { offset, .. }) => assert_eq!(offset, at, "{text:?}"),
            other => panic!("{text:?} gave {other:?}"),
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_and_not_a_cap() {
    let huge = "9".repeat(10_000);
    for text in [
        "1e30",
        "-1e30",
        "1e999999999999999999999",
        "170141183460469231731687303716Ei",
        "99999999999999E",
        &huge,
    ] {
        assert!(
            matches!(
                text.parse::<Quantity>(),
                Err(ParseQuantityError::OutOfRange { .. })
            ),
            "{text}"
        );
    }
    assert_eq!(
        quantity("170141183460469231731687303715884105727n"),
        Quantity::MAX
    );
    assert!(
        "170141183460469231731687303715884105728n"
            .parse::<Quantity>()
            .is_err()
    );
}

#[test]
fn json_numbers_are_taken_as_the_api_server_takes_them() {
    let read = |json: &str| serde_json::from_str::<Quantity>(json).map(|quantity| quantity.to_string());
    assert_eq!(read("2").unwrap(), "2");
    assert_eq!(read("-2").unwrap(), "-2");
    assert_eq!(read("18446744073709551615").unwrap(), "18446744073709551615");
    assert_eq!(read("0.1").unwrap(), "100m");
    assert_eq!(read("1e3").unwrap(), "1k");
    assert_eq!(read("123456789.123456").unwrap(), "123456789123456u");
    assert_eq!(read("\"1.5Gi\"").unwrap(), "1536Mi");
    assert!(read("null").is_err());
    assert!(read("true").is_err());
    assert!(read("\"1Kb\"").unwrap_err().to_string().contains("byte 1"));
}

#[derive(serde::Deserialize)]
struct Vector {
    #[serde(rename = "in")]
    text: String,
    out: Option<String>,
    value: Option<i128>,
    milli: Option<i128>,
    #[serde(default)]
    err: bool,
}

#[test]
fn reading_and_printing_agree_with_apimachinery() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("data/quantity.json")).unwrap();
    for vector in vectors {
        let text = &vector.text;
        let quantity = match text.parse::<Quantity>() {
            Ok(quantity) => quantity,
            Err(error) => {
                assert!(vector.err, "{error}");
                continue;
            }
        };
        assert!(!vector.err, "{text} should be refused");
        let cap = i64::MAX.to_string();
        if text.trim_start_matches('-').ends_with('i')
            && vector.out.as_deref().is_some_and(|out| out.ends_with(&cap))
        {
            // Apimachinery has capped a binary amount; ours is exact.
            assert!(
                quantity.nano().unsigned_abs() > self::quantity(&cap).nano().unsigned_abs(),
                "{text}"
            );
            continue;
        }
        let printed = quantity.to_string();
        if printed.ends_with("000E") {
            // Apimachinery has no suffix for this and prints the number without one.
            assert_eq!(
                printed.trim_end_matches(['0', 'E']),
                vector.out.unwrap().trim_end_matches('0'),
                "{text}"
            );
            continue;
        }
        assert_eq!(Some(printed), vector.out, "{text}");
        if let Some((value, milli)) = vector.value.zip(vector.milli) {
            assert_eq!(
                (quantity.value(), quantity.milli_value()),
                (value, milli),
                "{text}"
            );
        }
    }
}

fn formats() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::BinarySi),
        Just(Format::DecimalExponent),
        Just(Format::DecimalSi)
    ]
}

fn quantities() -> impl Strategy<Value = Quantity> {
    let nano = prop_oneof![
        -i128::MAX..=i128::MAX,
        -5_000_000_000_000_i128..5_000_000_000_000,
        (-5_000_000_i128..5_000_000).prop_map(|units| units * 1_000_000_000),
        ((-2048_i128..2048), (0_u32..7)).prop_map(|(n, step)| n * 1024_i128.pow(step) * 1_000_000_000),
    ];
    (nano, formats()).prop_map(|(nano, format)| Quantity::from_nano(nano).unwrap().with_format(format))
}

fn texts() -> impl Strategy<Value = String> {
    r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})"
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same_amount(quantity in quantities()) {
        let text = quantity.to_string();
        let back: Quantity = text.parse().unwrap();
        prop_assert_eq!(back, quantity);
        // What is binary and no multiple of 1024 has no suffix, is read as decimal, and then has one: as in apimachinery.
        let again = back.to_string();
        prop_assert_eq!(again.parse::<Quantity>().unwrap(), quantity);
        prop_assert_eq!(again.parse::<Quantity>().unwrap().to_string(), again.clone());
        prop_assert!(again == text || !text.ends_with('i'), "{} {}", again, text);
    }

    #[test]
    fn json_and_k8s_openapi_round_trip(quantity in quantities()) {
        let json = serde_json::to_string(&quantity).unwrap();
        prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), quantity);
        let wire = k8s_openapi::apimachinery::pkg::api::resource::Quantity::from(quantity);
        prop_assert_eq!(Quantity::try_from(&wire).unwrap(), quantity);
    }

    /// Against schoolbook arithmetic on digits: the number times a power of two or ten, without any shortcut.
    #[test]
    fn reading_agrees_with_schoolbook_arithmetic(text in texts()) {
        let expected = schoolbook(&text);
        match text.parse::<Quantity>() {
            Ok(quantity) => prop_assert_eq!(Some(quantity.nano().to_string()), expected, "{}", text),
            Err(error) => {
                let out_of_range = matches!(error, ParseQuantityError::OutOfRange { .. });
                prop_assert!(out_of_range, "{}", text);
                let digits = expected.unwrap().trim_start_matches('-').len();
                prop_assert!(digits >= 39, "{} has {} digits", text, digits);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn addition_commutes_and_subtraction_undoes_it(a in quantities(), b in quantities()) {
        prop_assert_eq!(a.checked_add(b), b.checked_add(a));
        if let Some(sum) = a.checked_add(b) {
            prop_assert_eq!(sum.checked_sub(b), Some(a));
        }
    }

    #[test]
    fn times_is_the_largest_count_that_fits(have in quantities(), request in quantities()) {
        if let Some(times) = have.times(request) {
            let used = |times: u128| request.nano().unsigned_abs().checked_mul(times);
            let have = u128::try_from(have.nano()).unwrap_or(0);
            prop_assert!(used(times).unwrap() <= have);
            prop_assert!(used(times + 1).is_none_or(|used| used > have));
        } else {
            prop_assert!(request <= Quantity::ZERO);
        }
    }

    #[test]
    fn values_are_the_nearest_whole_number_away_from_zero(quantity in quantities()) {
        let (value, milli) = (quantity.value(), quantity.milli_value());
        prop_assert_eq!(value.signum(), quantity.nano().signum());
        prop_assert!(value.unsigned_abs() * 1_000_000_000 >= quantity.nano().unsigned_abs());
        prop_assert!(value.unsigned_abs().saturating_sub(1) * 1_000_000_000 <= quantity.nano().unsigned_abs());
        prop_assert!(milli.unsigned_abs() * 1_000_000 >= quantity.nano().unsigned_abs());
    }
}

/// The amount in 10⁻⁹ as text, computed on decimal digits of any length.
fn schoolbook(text: &str) -> Option<String> {
    let negative = text.starts_with('-');
    let text = text.trim_start_matches(['+', '-']);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits: Vec<u32> = whole
        .chars()
        .chain(fraction.chars())
        .map(|c| c.to_digit(10).unwrap())
        .collect();
    let mut power = 9 - i64::try_from(fraction.len()).unwrap();
    if let Some(step) = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .iter()
        .position(|known| *known == suffix)
    {
        for _ in 0..10 * (step + 1) {
            let mut carry = 0;
            for digit in digits.iter_mut().rev() {
                let doubled = *digit * 2 + carry;
                (*digit, carry) = (doubled % 10, doubled / 10);
            }
            if carry > 0 {
                digits.insert(0, carry);
            }
        }
    } else if let Some(step) = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"]
        .iter()
        .position(|known| *known == suffix)
    {
        power += 3 * i64::try_from(step).unwrap() - 9;
    } else {
        power += suffix[1..].parse::<i64>().unwrap();
    }
    while power > 0 {
        digits.push(0);
        power -= 1;
    }
    let mut up = false;
    while power < 0 {
        up |= digits.pop().is_some_and(|digit| digit != 0);
        power += 1;
    }
    if up {
        let mut index = digits.len();
        loop {
            if index == 0 {
                digits.insert(0, 1);
                break;
            }
            index -= 1;
            if digits[index] < 9 {
                digits[index] += 1;
                break;
            }
            digits[index] = 0;
        }
    }
    let digits: String = digits
        .iter()
        .map(|digit| char::from_digit(*digit, 10).unwrap())
        .collect();
    let digits = digits.trim_start_matches('0');
    Some(match (digits, negative) {
        ("", _) => "0".to_owned(),
        (digits, true) => format!("-{digits}"),
        (digits, false) => digits.to_owned(),
    })
}
