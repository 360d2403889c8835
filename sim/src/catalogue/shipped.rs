//! The scenarios that come with the binary.

/// A scenario that comes with the binary.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// What [`super::load`] knows it by.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal)*) => {
        &[$(Shipped {
            name: $name,
            text: include_str!(concat!("../../scenarios/", $name, ".toml")),
        }),*]
    };
}

/// All of them, in the order of their names.
pub fn all() -> &'static [Shipped] {
    shipped! {
        "all-power-cut"
        "calm"
        "dc-crash"
        "dc-silent"
    }
}
