//! The metrology vectors and flicker points through the product's own command; the long sweep of random signals.

use crate::run;

/// Every vector within its tolerance.
pub fn vectors(_: &[&str]) -> Result<(), String> {
    let Some(data) = run::shared_data() else {
        println!("   left out: no acceptance data beside the repository");
        return Ok(());
    };
    let folder = data.join("metrology");
    let files = ["vectors.json", "flicker.json"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let program = run::gridtally().to_string_lossy().into_owned();
    let text = run::output(&program, &["metrology", "check", &files[0], &files[1], "--json"])?;
    let report: serde_json::Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    println!("   passed {}, failed {}", report["passed"], report["failed"]);
    Ok(())
}

/// The vectors, a thousand random signals against the targets, then the speed of the host side.
pub fn sweep(_: &[&str]) -> Result<(), String> {
    vectors(&[])?;
    example("sweep", &["1", "1000"])?;
    example("speed", &[])?;
    scipy()
}

/// SciPy's batched transform of 256 windows of 2,048 points, shortest of fifty runs; the whole of our window analysis
/// (interpolation, transform, 50 subgroups, powers) is measured in the run before it.
const BATCHED: &str = "
import numpy, scipy.fft, time
for kind in (numpy.float32, numpy.float64):
    windows = numpy.random.default_rng(1).standard_normal((256, 2048)).astype(kind)
    best = 1e9
    for _ in range(50):
        start = time.perf_counter()
        scipy.fft.rfft(windows, axis=1)
        best = min(best, time.perf_counter() - start)
    print(f'scipy_batched_rfft_us_per_channel {kind.__name__} {best / 256 * 1e6:.2f}')
";

/// The bare transform of SciPy beside our whole analysis.
fn scipy() -> Result<(), String> {
    let Some(python) = crate::tools::python_with(&["numpy", "scipy"]) else { return Ok(()) };
    run::step("scipy", &python.to_string_lossy(), &["-c", BATCHED])
}

fn example(name: &str, arguments: &[&str]) -> Result<(), String> {
    let mut words =
        vec!["run", "--release", "--locked", "--package", "metrology", "--features", "std", "--example", name, "--"];
    words.extend_from_slice(arguments);
    run::step(name, "cargo", &words)
}
