#!/bin/sh
exec ./entrypoint "$@"
