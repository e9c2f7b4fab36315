//! Where the sun stands and what a clear sky would give: position to about 0.01° by the low-precision formulas of the
//! Astronomical Almanac, clear-sky irradiance by Haurwitz (1945), a tilted plane with isotropic diffuse light.

/// A place on Earth, degrees; north and east positive.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    pub latitude: f64,
    pub longitude: f64,
}

/// Unit vector towards the sun: east, north, up.
pub fn direction(unix_s: i64, place: Place) -> [f64; 3] {
    let days = unix_s as f64 / 86_400.0 - 10_957.5;
    let anomaly = (357.529 + 0.985_600_28 * days).to_radians();
    let mean = 280.459 + 0.985_647_36 * days;
    let longitude = (mean + 1.915 * anomaly.sin() + 0.020 * (2.0 * anomaly).sin()).to_radians();
    let tilt = (23.439 - 0.000_000_36 * days).to_radians();
    let declination = (tilt.sin() * longitude.sin()).asin();
    let ascension = (tilt.cos() * longitude.sin()).atan2(longitude.cos());
    let sidereal = (18.697_374_558 + 24.065_709_824_419_08 * days) * 15.0 + place.longitude;
    let hour = sidereal.to_radians() - ascension;
    let latitude = place.latitude.to_radians();
    let (sd, cd) = declination.sin_cos();
    let (sl, cl) = latitude.sin_cos();
    [-cd * hour.sin(), cl * sd - sl * cd * hour.cos(), sl * sd + cl * cd * hour.cos()]
}

/// Global irradiance on the level under a clear sky, W/m²; `up` = sine of the sun's elevation.
pub fn clear_sky(up: f64) -> f64 {
    if up > 0.01 { 1_098.0 * up * (-0.059 / up).exp() } else { 0.0 }
}

/// Clear-sky irradiance on a plane, W/m²; tilt from the level, azimuth from north over east, degrees.
pub fn on_plane(direction: [f64; 3], tilt: f64, azimuth: f64) -> f64 {
    let [east, north, up] = direction;
    if up <= 0.02 {
        return 0.0;
    }
    let global = clear_sky(up);
    let diffuse = 0.15 * global + 20.0;
    let beam = (global - diffuse).max(0.0) / up.max(0.08);
    let (tilt, azimuth) = (tilt.to_radians(), azimuth.to_radians());
    let facing = east * tilt.sin() * azimuth.sin() + north * tilt.sin() * azimuth.cos() + up * tilt.cos();
    beam * facing.max(0.0) + diffuse * (1.0 + tilt.cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{DAY_S, day_of};

    #[test]
    fn the_sun_stands_where_the_almanac_says() {
        let greenwich = Place { latitude: 51.4779, longitude: 0.0 };
        // solstice: noon elevation = 90 - latitude + 23.44 degrees, due south, at 12:02 UTC
        let noon = day_of(2013, 6, 21) * DAY_S + 12 * 3_600 + 2 * 60;
        let [east, north, up] = direction(noon, greenwich);
        assert!((up.asin().to_degrees() - 61.96).abs() < 0.05, "{}", up.asin().to_degrees());
        assert!(east.abs() < 0.01 && north < 0.0);
        // sunrise in London on 21 March 2013 was at 06:02 UTC
        let rise = day_of(2013, 3, 21) * DAY_S + 6 * 3_600 + 2 * 60;
        assert!(direction(rise, greenwich)[2].asin().to_degrees().abs() < 1.2);
        assert!((clear_sky(1.0) - 1_035.0).abs() < 2.0);
    }
}
