# SPDX-License-Identifier: Apache-2.0
"""Defects of reaching the management API: addresses, TLS and tokens."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from bench.defects.bed import HOST_A, Bed, outcome
from bench.defects.defect import Observation, defect
from bench.defects.evidence import error_of
from testbed.cluster import sensitive_words

THREADS = 4
BUSY_LOOP = 100
"""Tries in one operation's time that no driver with pauses comes near."""


@defect("12b", "without lightos_api_address: TypeError")
def no_address(bed: Bed) -> Observation:
    error = bed.start_error(lightos_api_address=None)
    return Observation("lightos_api_address" not in error, outcome(error))


@defect("13a", "an API server that is down: a busy loop, with a traceback for every try")
def server_down(bed: Bed) -> Observation:
    before = bed.log_size()
    bed.start_error(lightos_api_address=bed.spare_address)
    log = bed.log_since(before)
    tracebacks = log.count("Traceback (most recent call last)")
    return Observation(tracebacks > BUSY_LOOP, f"{tracebacks} tracebacks in one start")


@defect("13b", "an address that answers 503 is never left for another one")
def no_failover(bed: Bed) -> Observation:
    bed.start(lightos_api_address=",".join(bed.two_addresses))
    volume = bed.cinder.new_volume(1)
    with bed.fault("*", address=bed.address_in_use(), status=503, count=0):
        error = error_of(bed.cinder.create, volume)
    return Observation(bool(error), outcome(error))


@defect("13c", "threads share the choice of server: with one down, some find no server at all")
def shared_index(bed: Bed) -> Observation:
    bed.start(lightos_api_address=",".join(bed.two_addresses))
    volumes = [bed.cinder.create_volume() for _ in range(THREADS)]
    in_use = bed.address_in_use()
    with bed.faults.during(address=in_use, swallow=True), ThreadPoolExecutor(THREADS) as pool:
        errors = list(pool.map(lambda v: error_of(bed.cinder.create_snapshot, v.id), volumes))
    failed = [error for error in errors if error]
    seen = f"{len(failed)} of {THREADS} snapshots failed though one server answered"
    return Observation(bool(failed), seen)


@defect("16a", "request bodies are in the log at INFO")
def bodies_logged(bed: Bed) -> Observation:
    bed.start()
    before = bed.log_size()
    volume = bed.cinder.create_volume()
    bed.cinder.attach(volume.id, HOST_A)
    lines = [line for line in bed.log_since(before).splitlines() if " INFO " in line]
    bodies = [line for line in lines if "replicaCount" in line or "'acl'" in line]
    return Observation(bool(bodies), f"{len(bodies)} INFO lines with a request body")


@defect("16b", "there is no CA option: a cluster with a CA of its own cannot be verified")
def no_ca_option(bed: Bed) -> Observation:
    error = bed.start_error(driver_ssl_cert_verify=True, driver_ssl_cert_path=bed.lab["ca_file"])
    return Observation(bool(error), "does not start" if error else "starts, verified by the CA")


@defect("16c", "TLS is not verified by default, and nothing says so")
def silently_unverified(bed: Bed) -> Observation:
    before = bed.log_size()
    bed.start(driver_ssl_cert_verify=None, driver_ssl_cert_path=None)
    warned = [
        line
        for line in bed.log_since(before).splitlines()
        if " WARNING " in line and "NOT VERIFIED" in line.upper()
    ]
    return Observation(not warned, f"{len(warned)} warnings at start")


@defect("16d", "API addresses must be IP addresses")
def names_refused(bed: Bed) -> Observation:
    error = bed.start_error(
        lightos_api_address="localhost",
        driver_ssl_cert_verify=False,
        driver_ssl_cert_path=None,
    )
    return Observation(bool(error), outcome(error))


@defect("18a", "a new JWT needs a restart")
def token_replaced(bed: Bed) -> Observation:
    bed.start(**bed.token_options())
    volume = bed.cinder.create_volume()
    bed.replace_token()
    error = error_of(bed.cinder.attach, volume.id, HOST_A)
    return Observation(bool(error), outcome(error))


@defect("18b", "a JWT that the cluster refuses is not named as the cause")
def token_refused(bed: Bed) -> Observation:
    bed.start()
    volume = bed.cinder.create_volume()
    with bed.fault("*", status=401, count=0, message="token is expired"):
        error = error_of(bed.cinder.attach, volume.id, HOST_A)
    named = any(word in error for word in ("401", "token", "JWT"))
    leaked = any(word in error for word in sensitive_words(bed.lab))
    return Observation(not named or leaked, outcome(error))
