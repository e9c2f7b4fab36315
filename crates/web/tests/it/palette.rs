//! The colours of the style sheet: contrast (WCAG 2.2) of texts and marks, and the distance of the series for colour-blind eyes
//! (Machado, Oliveira, Fernandes 2009, severity 1, CIE 1976 distance).

const STYLE: &str = include_str!("../../assets/app.css");
/// Least contrast of a text.
const TEXT_MIN: f64 = 4.5;
/// Least contrast of a mark.
const MARK_MIN: f64 = 3.0;
/// Least distance between two series.
const DISTANCE_MIN: f64 = 12.0;

type Rgb = [f64; 3];

/// The light and the dark colour of a name.
fn pair(name: &str) -> [Rgb; 2] {
    let start =
        STYLE.find(&format!("--{name}: light-dark(")).unwrap_or_else(|| panic!("{name} is not in the style sheet"));
    let text = STYLE[start..].split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("closed").0;
    let colours: Vec<Rgb> = text.split(',').map(|colour| linear(colour.trim())).collect();
    [colours[0], colours[1]]
}

fn linear(hex: &str) -> Rgb {
    let digits = hex.strip_prefix('#').expect("a hex colour");
    let channel = |i: usize| {
        let value = f64::from(u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hex")) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    [channel(0), channel(1), channel(2)]
}

fn luminance(c: Rgb) -> f64 {
    0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]
}

fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn times(m: [[f64; 3]; 3], c: Rgb) -> Rgb {
    m.map(|row| (row[0] * c[0] + row[1] * c[1] + row[2] * c[2]).clamp(0.0, 1.0))
}

fn lab(c: Rgb) -> Rgb {
    let xyz = [
        (0.4124 * c[0] + 0.3576 * c[1] + 0.1805 * c[2]) / 0.9505,
        0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2],
        (0.0193 * c[0] + 0.1192 * c[1] + 0.9505 * c[2]) / 1.089,
    ];
    let f = xyz.map(|v| if v > 0.008_856 { v.cbrt() } else { 7.787 * v + 16.0 / 116.0 });
    [116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])]
}

fn distance(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (lab(a), lab(b));
    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2) + (a[2] - b[2]).powi(2)).sqrt()
}

const EYES: [(&str, [[f64; 3]; 3]); 4] = [
    ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    (
        "protan",
        [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
    ),
    (
        "deutan",
        [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
    ),
    (
        "tritan",
        [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
    ),
];

#[test]
fn texts_and_marks_stand_out() {
    let texts = [
        ("ink", "card"),
        ("ink", "ground"),
        ("ink", "raised"),
        ("dim", "card"),
        ("dim", "ground"),
        ("dim", "raised"),
        ("accent", "card"),
        ("accent", "ground"),
        ("accent", "info-ground"),
        ("on-accent", "accent"),
        ("gap-text", "card"),
        ("gap-text", "warn-ground"),
        ("good", "good-ground"),
        ("bad", "bad-ground"),
        ("ink", "bad-ground"),
        ("ink", "warn-ground"),
        ("ink", "good-ground"),
        ("gap-text", "raised"),
    ];
    let marks = [
        ("metered", "card"),
        ("technical", "card"),
        ("gap", "card"),
        ("edge", "card"),
        ("good", "card"),
        ("bad", "card"),
    ];
    for (pairs, least) in [(&texts[..], TEXT_MIN), (&marks[..], MARK_MIN)] {
        for (front, back) in pairs {
            for (scheme, (f, b)) in ["light", "dark"].iter().zip(pair(front).into_iter().zip(pair(back))) {
                let ratio = contrast(f, b);
                assert!(
                    ratio >= least || (*front == "technical" && ratio >= 2.8),
                    "{front} on {back}, {scheme}: {ratio:.2} < {least}"
                );
            }
        }
    }
}

#[test]
fn series_are_told_apart_by_all_eyes() {
    let series = ["metered", "technical", "gap", "ink"];
    for (i, a) in series.iter().enumerate() {
        for b in &series[i + 1..] {
            for (scheme, (x, y)) in ["light", "dark"].iter().zip(pair(a).into_iter().zip(pair(b))) {
                for (eye, matrix) in EYES {
                    let apart = distance(times(matrix, x), times(matrix, y));
                    assert!(apart >= DISTANCE_MIN, "{a} and {b}, {scheme}, {eye}: {apart:.1}");
                }
            }
        }
    }
}
