/// Why an expression is not a schedule. `offset` counts bytes from the start of the expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// The expression is empty or has another number of fields.
    #[error(
        "`{expression}` has {found} fields, expected five: minute, hour, day of month, month, day of week"
    )]
    FieldCount {
        /// The expression.
        expression: String,
        /// Fields found.
        found: usize,
    },
    /// The word after `@` is none of the descriptors.
    #[error(
        "`{expression}` is no descriptor: expected @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly or @every <duration>"
    )]
    Descriptor {
        /// The expression.
        expression: String,
    },
    /// `@every` wants a Go duration of at least one second.
    #[error(
        "`{duration}` at byte {offset} is no interval: expected a Go duration of at least 1s, such as 6h or 1h30m"
    )]
    Every {
        /// What stands there.
        duration: String,
        /// Where.
        offset: usize,
    },
    /// A number, name, range or step that the field does not take.
    #[error("`{item}` at byte {offset} is no {field}: expected {expected}")]
    Item {
        /// What stands there.
        item: String,
        /// Where.
        offset: usize,
        /// Name of the field.
        field: &'static str,
        /// What the field takes.
        expected: String,
    },
    /// The time zone is not in the zone database.
    #[error("`{zone}` at byte {offset} is no time zone: expected an IANA name such as Europe/Berlin, or UTC")]
    Zone {
        /// The name.
        zone: String,
        /// Where.
        offset: usize,
    },
}
