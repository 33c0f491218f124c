//! The overlays: compiled, and put on a board's device tree.

use std::fs;
use std::path::Path;

use super::service::tool;

/// What of a Raspberry Pi's device tree an overlay touches.
const BASE: &str = r#"/dts-v1/;
/ {
    compatible = "raspberrypi,3-model-b", "brcm,bcm2837";
    soc {
        #address-cells = <1>;
        #size-cells = <1>;
        gpio: gpio@7e200000 { reg = <0x7e200000 0xb4>; gpio-controller; #gpio-cells = <2>; };
    };
};
"#;

/// The tree with overlays on it, as text.
fn merged(folder: &Path, overlays: &[&str]) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("board/overlays");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(path("base.dts"), BASE).unwrap();
    tool("dtc", &["-@", "-o", &path("base.dtb"), &path("base.dts")], folder);
    let mut compiled = Vec::new();
    for name in overlays {
        let (source, object) = (sources.join(format!("{name}.dts")), path(&format!("{name}.dtbo")));
        // -Werror would also refuse what the kernel's own overlays do; what dtc says here is empty.
        tool("dtc", &["-@", "-I", "dts", "-O", "dtb", "-o", &object, source.to_str().unwrap()], folder);
        compiled.push(object);
    }
    let (base, out) = (path("base.dtb"), path("out.dtb"));
    let objects = compiled.iter().map(String::as_str);
    let arguments: Vec<&str> = ["-i", &base, "-o", &out].into_iter().chain(objects).collect();
    tool("fdtoverlay", &arguments, folder);
    tool("dtc", &["-q", "-I", "dtb", "-O", "dts", &out], folder)
}

/// The lines of a node, by its name.
fn node<'t>(tree: &'t str, name: &str) -> &'t str {
    let (_, rest) = tree.split_once(&format!("{name} {{")).unwrap_or_else(|| panic!("no {name} in\n{tree}"));
    rest.split_once('}').unwrap().0
}

#[test]
fn one_colour_is_an_led_on_pin_17_under_the_name_of_the_profiles() {
    let folder = tempfile::tempdir().unwrap();
    let tree = merged(folder.path(), &["tillmesh-led", "tillmesh-qemu-raspi3b"]);
    let led = node(&tree, "led-status");
    assert!(led.contains("label = \"tillmesh::status\"") && led.contains(" 0x11 0x00>"), "{led}");
    assert!(node(&tree, "tillmesh-leds").contains("compatible = \"gpio-leds\""), "{tree}");
    assert!(tree.contains("compatible = \"qemu,raspi3b\\0raspberrypi,3-model-b\\0brcm,bcm2837\""), "{tree}");
}

#[test]
fn two_colours_are_two_leds_on_pins_17_and_27() {
    let folder = tempfile::tempdir().unwrap();
    let tree = merged(folder.path(), &["tillmesh-led-two"]);
    let (red, green) = (node(&tree, "led-red"), node(&tree, "led-green"));
    assert!(red.contains("label = \"tillmesh:red:status\"") && red.contains(" 0x11 0x00>"), "{red}");
    assert!(green.contains("label = \"tillmesh:green:status\"") && green.contains(" 0x1b 0x00>"), "{green}");
}

#[test]
fn the_names_of_the_overlays_are_those_that_every_raspberry_pi_looks_for() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("board");
    let mut looked = 0;
    for entry in fs::read_dir(&boards).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let has_overlay =
            name.starts_with("raspberrypi-") && name != "raspberrypi-gpio.toml" || name == "qemu-raspi3b.toml";
        if has_overlay {
            let text = fs::read_to_string(&path).unwrap();
            for led in ["tillmesh:red:status", "tillmesh:green:status", "tillmesh::status"] {
                assert!(text.contains(&format!("sysfs = \"{led}\"")), "{name}: {led}");
            }
            looked += 1;
        }
    }
    assert_eq!(looked, 6);
    let mut overlays = 0;
    for entry in fs::read_dir(boards.join("overlays")).unwrap() {
        overlays += usize::from(entry.unwrap().path().extension().is_some_and(|end| end == "dts"));
    }
    assert_eq!(overlays, 3, "each has a test above");
}
