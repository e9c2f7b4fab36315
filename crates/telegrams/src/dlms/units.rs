//! Units by their DLMS code (Blue Book, "enumerated values for physical units"), and the unit that an OBIS code implies.

const UNITS: &[(u8, &str)] = &[
    (1, "a"),
    (2, "mo"),
    (3, "wk"),
    (4, "d"),
    (5, "h"),
    (6, "min"),
    (7, "s"),
    (8, "deg"),
    (9, "°C"),
    (10, "currency"),
    (11, "m"),
    (12, "m/s"),
    (13, "m3"),
    (14, "m3"),
    (15, "m3/h"),
    (16, "m3/h"),
    (17, "m3/d"),
    (18, "m3/d"),
    (19, "l"),
    (20, "kg"),
    (21, "N"),
    (22, "Nm"),
    (23, "Pa"),
    (24, "bar"),
    (25, "J"),
    (26, "J/h"),
    (27, "W"),
    (28, "VA"),
    (29, "var"),
    (30, "Wh"),
    (31, "VAh"),
    (32, "varh"),
    (33, "A"),
    (34, "C"),
    (35, "V"),
    (36, "V/m"),
    (37, "F"),
    (38, "ohm"),
    (39, "ohm m2/m"),
    (40, "Wb"),
    (41, "T"),
    (42, "A/m"),
    (43, "H"),
    (44, "Hz"),
    (45, "1/Wh"),
    (46, "1/varh"),
    (47, "1/VAh"),
    (48, "V2h"),
    (49, "A2h"),
    (50, "kg/s"),
    (51, "S"),
    (52, "K"),
    (53, "1/V2h"),
    (54, "1/A2h"),
    (55, "1/m3"),
    (56, "%"),
    (57, "Ah"),
    (60, "Wh/m3"),
    (61, "J/m3"),
    (62, "mol%"),
    (63, "g/m3"),
    (64, "Pa s"),
    (65, "J/kg"),
    (66, "g/cm2"),
    (67, "atm"),
    (70, "dBm"),
    (71, "dBuV"),
    (72, "dB"),
    (128, "in"),
    (129, "ft"),
    (130, "lb"),
    (131, "°F"),
    (255, ""),
];

/// Durations count something, they measure nothing.
pub fn is_duration(unit: &str) -> bool {
    matches!(unit, "a" | "mo" | "wk" | "d" | "h" | "min" | "s")
}

/// The unit of a code; `None` for a reserved one. 255 is a pure number.
pub fn name(code: u8) -> Option<&'static str> {
    // The list begins without gaps.
    let at_its_place = UNITS.get(usize::from(code).wrapping_sub(1)).filter(|(known, _)| *known == code);
    at_its_place.or_else(|| UNITS.iter().find(|(known, _)| *known == code)).map(|(_, name)| *name)
}

/// The code of a unit.
pub fn code(name: &str) -> Option<u8> {
    UNITS.iter().find(|(_, known)| *known == name).map(|(code, _)| *code)
}

/// The base unit that an electricity OBIS code implies when the meter sends none; `None` for codes without a measurement.
pub fn implied(obis: [u8; 6]) -> Option<&'static str> {
    let [1, _, c, d, _, _] = obis else { return None };
    let energy = matches!(d, 8 | 9 | 29 | 30 | 5);
    let power = matches!(d, 4 | 6 | 7 | 14 | 24 | 25 | 27);
    let of = |energy_unit, power_unit| match d {
        _ if energy => Some(energy_unit),
        _ if power => Some(power_unit),
        _ => None,
    };
    let phase = if (21..=80).contains(&c) { (c - 1) % 20 + 1 } else { c };
    match (c, phase) {
        (31 | 51 | 71 | 11 | 91, _) if power => Some("A"),
        (32 | 52 | 72 | 12, _) if power => Some("V"),
        (33 | 53 | 73 | 13, _) if power => Some(""),
        (14 | 34 | 54 | 74, _) if power => Some("Hz"),
        (1..=80, 1 | 2 | 15 | 16) => of("Wh", "W"),
        (1..=80, 3..=8) => of("varh", "var"),
        (1..=80, 9 | 10) => of("VAh", "VA"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_imply_units() {
        for (obis, unit) in [
            ([1, 0, 1, 8, 0, 255], Some("Wh")),
            ([1, 0, 21, 7, 0, 255], Some("W")),
            ([1, 1, 63, 7, 0, 255], Some("var")),
            ([1, 0, 72, 7, 0, 255], Some("V")),
            ([1, 0, 31, 7, 0, 255], Some("A")),
            ([1, 0, 53, 7, 0, 255], Some("")),
            ([1, 0, 76, 7, 0, 255], Some("W")),
            ([1, 0, 9, 8, 0, 255], Some("VAh")),
            ([0, 0, 96, 1, 0, 255], None),
            ([1, 1, 0, 0, 5, 255], None),
        ] {
            assert_eq!(implied(obis), unit, "{obis:?}");
        }
        assert_eq!(name(30), Some("Wh"));
        assert_eq!(code("varh"), Some(32));
    }
}
