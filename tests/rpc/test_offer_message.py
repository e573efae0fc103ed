"""The message of an offer, by values."""

from pool_service.core.errors import ModelNotOnDisk
from pool_service.core.offer import Offer, OfferVerdict
from pool_service.rpc import wire
from pool_service.v1 import pool_service_pb2 as pb


def test_every_verdict_has_one_of_its_own_on_the_wire() -> None:
    assert set(wire.VERDICTS) == set(OfferVerdict)
    told = [*wire.VERDICTS.values(), pb.OFFER_VERDICT_UNSPECIFIED]
    assert sorted(told) == sorted(pb.OfferVerdict.values())


def test_all_that_an_offer_says_is_in_its_message() -> None:
    offer = Offer(
        OfferVerdict.EVICTS,
        "m",
        "org/m",
        on_disk=False,
        usual_load_s=2.5,
        needed=4,
        free=3,
        evicted=2,
        evictable=9,
        revision=17,
        listed=True,
        queued=5,
    )
    message = wire.offer(offer)
    assert message.usual_load.ToMilliseconds() == 2500
    message.ClearField("usual_load")
    assert message == pb.OfferResponse(
        verdict=pb.OFFER_VERDICT_EVICTS,
        model="m",
        runtime_model="org/m",
        on_disk=False,
        needed_bytes=4,
        free_bytes=3,
        evicted_bytes=2,
        evictable_bytes=9,
        revision=17,
        listed=True,
        queued=5,
    )


def test_what_is_unknown_or_without_a_limit_is_absent() -> None:
    message = wire.offer(Offer(OfferVerdict.FITS, "m", "org/m", free=None))
    for name in ("on_disk", "usual_load", "free_bytes"):
        assert not message.HasField(name)
    assert wire.offer(Offer(OfferVerdict.FITS, "m", "org/m", free=0)).HasField("free_bytes")


def test_a_refusal_has_the_reason_and_the_message_of_its_error() -> None:
    error = ModelNotOnDisk("its files \udcff are not here", model="m")
    message = wire.offer(Offer(OfferVerdict.NEVER, "m", "org/m", error=error))
    assert message.reason == "MODEL_NOT_ON_DISK"
    assert message.message == r"its files \udcff are not here"
