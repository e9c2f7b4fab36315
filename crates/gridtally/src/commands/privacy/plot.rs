//! A line plot with logarithmic axes as SVG, for the studies of this command.

/// A line: its name and its points.
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Points, both coordinates positive.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const EDGE: f64 = 60.0;
const COLOURS: [&str; 6] = ["#1f6feb", "#d1495b", "#2b8a3e", "#8a5a00", "#7048a8", "#555555"];

/// Draws lines over two logarithmic axes.
pub fn draw(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let low = all().map(pick).fold(f64::INFINITY, f64::min).log10().floor();
        let high = all().map(pick).fold(f64::MIN_POSITIVE, f64::max).log10().ceil();
        (low, if high > low { high } else { low + 1.0 })
    };
    let (x_range, y_range) = (range(|p| p.0), range(|p| p.1));
    let at_x = |x: f64| EDGE + (x.log10() - x_range.0) / (x_range.1 - x_range.0) * (WIDTH - 2.0 * EDGE);
    let at_y = |y: f64| HEIGHT - EDGE - (y.log10() - y_range.0) / (y_range.1 - y_range.0) * (HEIGHT - 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{EDGE}\" y=\"24\" font-size=\"15\">{title}</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x_name}</text>\n\
         <text x=\"16\" y=\"{}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {})\">{y_name}</text>\n",
        WIDTH / 2.0,
        HEIGHT - 16.0,
        HEIGHT / 2.0,
        HEIGHT / 2.0
    );
    for decade in x_range.0 as i32..=x_range.1 as i32 {
        let x = at_x(10_f64.powi(decade));
        svg += &format!("<path d=\"M{x:.1} {EDGE}V{:.1}\" stroke=\"#dddddd\"/>", HEIGHT - EDGE);
        svg +=
            &format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">1e{decade}</text>\n", HEIGHT - EDGE + 16.0);
    }
    for decade in y_range.0 as i32..=y_range.1 as i32 {
        let y = at_y(10_f64.powi(decade));
        svg += &format!("<path d=\"M{EDGE} {y:.1}H{:.1}\" stroke=\"#dddddd\"/>", WIDTH - EDGE);
        svg += &format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">1e{decade}</text>\n", EDGE - 4.0, y + 4.0);
    }
    for (k, line) in lines.iter().enumerate() {
        let colour = COLOURS[k % COLOURS.len()];
        let points: Vec<String> = line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        svg += &format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            points.join(" ")
        );
        let y = EDGE + 16.0 * k as f64 + 10.0;
        svg += &format!("<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>\n", EDGE + 10.0, line.name);
    }
    svg + "</svg>\n"
}
