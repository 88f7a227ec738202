//! A unit as data: properties with typed values, as the manager takes them over the bus
//! (`org.freedesktop.systemd1(5)`).
//!
//! The same data is sent to the manager and printed as a unit file, so that nothing is said twice.

use zbus::zvariant;

/// A unit that exists as long as it runs, or has failed and was not reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransientUnit {
    /// Its name, such as `pod-web.service`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) properties: Vec<Property>,
}

/// One property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    /// Its name on the bus, such as `TimeoutStopUSec`.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: Value,
    /// Whether a manager may do without it.
    pub(crate) need: Need,
}

/// Whether a manager that does not know a property is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is: without the property the unit would not be what was asked for.
    Required,
    /// It is not: the property says something about the unit, and does nothing.
    Optional,
}

impl Property {
    /// Makes a property that no manager may do without.
    pub(crate) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, need: Need::Required }
    }

    /// Makes a property that older managers may do without.
    pub(crate) fn optional(name: &str, value: Value) -> Self {
        Self { need: Need::Optional, ..Self::new(name, value) }
    }
}

/// The value of a property; the letters are those of D-Bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `b`.
    Bool(bool),
    /// `i`.
    Int(i32),
    /// `u`.
    Unsigned(u32),
    /// `t`; [`u64::MAX`] is infinity.
    Long(u64),
    /// `s`.
    Text(String),
    /// `as`.
    Texts(Vec<String>),
    /// `ay`, a bit for each processor or memory node.
    Mask(Vec<u8>),
    /// `aay`, `FIELD=VALUE` of the journal.
    Fields(Vec<String>),
    /// `a(sasb)`, one command.
    Command(Vec<String>),
    /// `a(ss)`.
    Pairs(Vec<(String, String)>),
    /// `a(st)`, figures for block devices by their path.
    Figures(Vec<(String, u64)>),
    /// `(aiai)`, exit statuses and signals.
    Statuses(Vec<i32>, Vec<i32>),
}

impl Value {
    /// Adds what a list of the same kind holds.
    pub(super) fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::Texts(all) | Self::Fields(all), Self::Texts(more) | Self::Fields(more)) => {
                all.extend(more);
            }
            (Self::Pairs(all), Self::Pairs(more)) => all.extend(more),
            (Self::Figures(all), Self::Figures(more)) => all.extend(more),
            (Self::Statuses(codes, signals), Self::Statuses(more_codes, more_signals)) => {
                codes.extend(more_codes);
                signals.extend(more_signals);
            }
            (value, more) => *value = more,
        }
    }

    /// Returns the value in the bus library's form.
    pub(super) fn on_bus(&self) -> zvariant::Value<'_> {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Unsigned(value) => (*value).into(),
            Self::Long(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Texts(values) => zvariant::Value::new(values.as_slice()),
            Self::Mask(bytes) => zvariant::Value::new(bytes.as_slice()),
            Self::Fields(fields) => {
                let fields: Vec<&[u8]> = fields.iter().map(String::as_bytes).collect();
                zvariant::Value::new(fields)
            }
            Self::Command(argv) => {
                let program = argv.first().map_or("", String::as_str);
                let argv: Vec<String> = argv.iter().map(|word| word.replace('$', "$$")).collect();
                zvariant::Value::new(vec![(program, argv, false)])
            }
            Self::Pairs(pairs) => zvariant::Value::new(pairs.clone()),
            Self::Figures(figures) => zvariant::Value::new(figures.clone()),
            Self::Statuses(statuses, signals) => {
                zvariant::Value::new((statuses.clone(), signals.clone()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_the_type_the_manager_expects() {
        let texts = || vec!["a".to_owned()];
        let table = [
            (Value::Bool(true), "b"),
            (Value::Int(-1), "i"),
            (Value::Unsigned(1), "u"),
            (Value::Long(1), "t"),
            (Value::Text("a".to_owned()), "s"),
            (Value::Texts(texts()), "as"),
            (Value::Texts(Vec::new()), "as"),
            (Value::Mask(vec![3]), "ay"),
            (Value::Fields(texts()), "aay"),
            (Value::Command(texts()), "a(sasb)"),
            (Value::Pairs(vec![("a".to_owned(), "b".to_owned())]), "a(ss)"),
            (Value::Figures(vec![("a".to_owned(), 1)]), "a(st)"),
            (Value::Statuses(vec![143], Vec::new()), "(aiai)"),
        ];
        for (value, signature) in table {
            assert_eq!(value.on_bus().value_signature().to_string(), signature, "{value:?}");
        }
    }

    #[test]
    fn nothing_in_a_command_is_expanded() {
        let value = Value::Command(vec!["/usr/bin/pod".to_owned(), "/$HOME/${x}".to_owned()]);
        let shown = format!("{:?}", value.on_bus());
        assert!(shown.contains("/$$HOME/$${x}"), "{shown}");
    }
}
