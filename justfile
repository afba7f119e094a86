# Names for the chores; `cargo xtask --help` tells what each does.

test:
    cargo xtask test

demo:
    cargo xtask demo

check:
    cargo xtask check

fixtures:
    cargo xtask fixtures

sidecar:
    cargo xtask sidecar

lab-list:
    cargo xtask lab list

lab-run NAME:
    cargo xtask lab run {{NAME}}

lab-shell:
    cargo xtask lab shell
