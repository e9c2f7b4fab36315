//! Proofs that drive the built product as a user would. Short ones run in `ci`, long ones by name.

mod abuse;
mod axe;
mod billing;
mod clients;
mod demo;
mod devices;
mod emulated;
mod forecast;
mod grid;
mod localisation;
mod meter;
mod metrology;
mod privacy;
mod properties;
mod story;

pub use properties::{PROPERTY_SEED, TESTS};

/// One proof.
pub struct Check {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Runs it; the words after the name are its arguments.
    pub run: fn(&[&str]) -> Result<(), String>,
}

/// Proofs that every change must pass.
pub const IN_CI: &[Check] = &[
    Check {
        name: "demo-short",
        about: "17 virtual days: nothing lost or doubled, the large theft cut off",
        run: demo::short,
    },
    Check { name: "clients", about: "mosquitto and paho are a meter and receive a command", run: clients::run },
    Check {
        name: "vectors",
        about: "all metrology vectors and flicker points of the shared data",
        run: metrology::vectors,
    },
    Check { name: "billing", about: "all shared billing cases, line by line to the minor unit", run: billing::cases },
    Check { name: "grid", about: "power flow and estimation against every shared reference", run: grid::references },
];

/// Long proofs.
const LONG: &[Check] = &[
    Check {
        name: "devices",
        about: "telegrams and files of real meters: equal to their expectation, 10,000 damaged copies never wrong",
        run: devices::run,
    },
    Check {
        name: "abuse",
        about: "forged answers, guessed passwords, sockets that never speak: all held, and honest meters acknowledged in time",
        run: abuse::run,
    },
    Check {
        name: "story",
        about: "a script that reads only the pages learns within 180 s who stole, how sure that is, what was done",
        run: story::run,
    },
    Check {
        name: "axe",
        about: "axe-core finds nothing on any page, on a desk and a phone, light and dark; eight windows stay alive",
        run: axe::run,
    },
    Check {
        name: "emulated",
        about: "a meter on an emulated microcontroller and the real server: kills, cuts, damage; every record once",
        run: emulated::run,
    },
    Check { name: "relay", about: "1,000,000 random sequences: no rule of the relay is broken", run: meter::relay },
    Check {
        name: "powercut",
        about: "power cut 10,000 times inside flash writes: nothing safe is lost, nothing doubled",
        run: meter::power_cut,
    },
    Check {
        name: "metrology",
        about: "the vectors, a sweep of 1,000 random signals, the speed of the host side",
        run: metrology::sweep,
    },
    Check {
        name: "demo",
        about: "30 virtual days at seeds 1 to 20 (or the seeds given): rates, delays, losses",
        run: demo::seeds,
    },
    Check {
        name: "localisation",
        about: "theft localised on the shared trials at 7 and 30 days, against their truth and the targets",
        run: localisation::trials,
    },
    Check {
        name: "forecast",
        about: "forecasts and solar on the shared data: targets, leak test, sums; held-back weeks when they are there",
        run: forecast::run,
    },
    Check {
        name: "grid-lost",
        about: "lost measurements recovered on simbench-lv-rural2 and ukgds95: voltages, sums, coverage",
        run: grid::lost,
    },
    Check {
        name: "grid-speed",
        about: "time per bus from 100 to 10,000 buses, and what the second thread gives",
        run: grid::speed,
    },
    Check {
        name: "privacy",
        about: "masked meters with one to three custodians, theft without curves, vectors and trade-off",
        run: privacy::run,
    },
    Check {
        name: "properties",
        about: "all tests again with other random seeds (how many: 10, or the number given)",
        run: properties::run,
    },
    Check {
        name: "kill",
        about: "serve killed 20 times under simulate --lockstep: the same end as undisturbed",
        run: demo::kill,
    },
];

/// Names what there is.
pub fn list() -> Result<(), String> {
    for check in IN_CI.iter().chain(LONG) {
        println!("{:12} {}", check.name, check.about);
    }
    Ok(())
}

/// Builds the product and runs one proof by name.
pub fn run(name: &str, arguments: &[&str]) -> Result<(), String> {
    let check = named(name)?;
    crate::run::build_product()?;
    (check.run)(arguments)
}

/// Runs one proof by name on the product as it lies there.
pub fn as_built(name: &str, arguments: &[&str]) -> Result<(), String> {
    (named(name)?.run)(arguments)
}

fn named(name: &str) -> Result<&'static Check, String> {
    let check = IN_CI.iter().chain(LONG).find(|check| check.name == name);
    check.ok_or_else(|| format!("no such proof: {name}; `cargo xtask acceptance` lists them"))
}
