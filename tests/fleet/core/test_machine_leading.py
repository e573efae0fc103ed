"""Who may place: epochs, followers, and other fronts."""

from pool_service.access.fence import MAX_EPOCH
from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.seats import ASK_AGAIN_S
from pool_service.fleet.core.values import Lead
from pool_service.fleet.ports import MAY_NOT_PLACE
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, WAITS, Front, server, told_lead

FOLLOWS = Lead(leads=False, epoch=2, address="leader:1")


def leads(epoch: int) -> Lead:
    return Lead(leads=True, epoch=epoch)


def test_the_epoch_is_above_all_that_members_have_seen() -> None:
    front = Front()
    front.lead(leads(3))
    front.listed("a", "b")
    front.beat("a", 7, "earlier")
    front.told("a")
    front.beat("b", 5, "another")
    assert front.machine.epoch == 0
    commands = front.told("b")
    assert front.machine.epoch == 8
    assert told_lead(commands) == ["a", "b"]


def test_the_epoch_of_an_engine_counts_if_it_is_higher() -> None:
    assert Front("a", lead=leads(30)).machine.epoch == 30


def test_a_member_that_has_not_heard_the_epoch_is_told_at_each_beat_and_not_placed_on() -> None:
    front = Front("a", "b")
    front.lose_sight("b")
    front.pass_time(LOST_AFTER_S)
    assert told_lead(front.beat("b", 0)) == ["b"]
    front.told("b")
    assert told_lead(front.beat("b", 0)) == ["b"]
    front.ask()
    # It hears with the next beat, and until then all wait, but not for long.
    front.pass_time(ASK_AGAIN_S)
    assert front.asked().hosts == ("a",)


def test_members_are_asked_as_soon_as_all_have_heard_who_leads() -> None:
    """Not the first alone that has heard: all models would start there."""
    front = Front("a", "b")
    front.lead(leads(9))
    call = front.ask()
    front.acknowledge("a")
    assert not [one for one in front.commands if isinstance(one, cmd.AskOffers)]
    front.acknowledge("b")
    assert front.asked().hosts == ("a", "b")
    front.offer(a=WAITS, b=FITS)
    assert front.host_of(call) == "b"


def test_a_leader_that_meets_a_higher_epoch_of_an_earlier_one_rises_above_it() -> None:
    front = Front("a", "b", lead=leads(3))
    assert told_lead(front.beat("b", 9, "earlier", 0.1)) == ["a", "b", "b"]
    assert front.machine.epoch == 10


def test_the_epoch_never_falls_when_an_engine_has_lost_its_data() -> None:
    front = Front("a", "b", lead=leads(7))
    front.lead(Lead(leads=False))
    front.lead(leads(1))
    assert front.machine.epoch >= 7
    front.acknowledge()
    front.ask()
    assert front.asked().hosts == ("a", "b")


def test_a_longer_lease_changes_nothing_else() -> None:
    front = Front("a", lead=Lead(leads=True, epoch=4, until=110.0))
    call = front.ask()
    front.listed("a", "b")
    assert front.lead(Lead(leads=True, epoch=4, until=120.0)) == []
    assert front.machine.epoch == 4
    assert front.machine.lead.until == 120.0
    front.offer(a=FITS)
    assert front.seat(call).epoch == 4


def test_a_leader_that_has_not_heard_until_its_time_places_nothing() -> None:
    front = Front("a", "b", lead=Lead(leads=True, epoch=4, until=103.0))
    front.changed(server("b", "there"))
    waiting = front.ask()
    front.pass_time(3.0)
    assert isinstance(front.answers[front.ask()], PoolUnreachable)
    front.offer(a=FITS)
    assert isinstance(front.answers[waiting], PoolUnreachable)
    # Two copies are left to who leads.
    front.changed(server("a", "there"))
    assert not [one for one in front.commands if isinstance(one, cmd.EvictCopy)]
    assert front.machine.at_once("there") is not None
    front.lead(Lead(leads=True, epoch=4, until=113.0))
    assert front.waits(front.ask())


def test_a_leader_whose_time_has_passed_does_not_rise_above_the_next_one() -> None:
    front = Front("a", "b", lead=Lead(leads=True, epoch=4, until=103.0))
    front.now = 103.0
    assert told_lead(front.beat("b", 5, "next", 0.1)) == []
    assert front.machine.epoch == 4
    # Its engine has let it lead on, so that the other one was before it.
    front.lead(Lead(leads=True, epoch=4, until=113.0))
    assert told_lead(front.beat("b", 5, "next", 0.1)) == ["a", "b", "b"]
    assert front.machine.epoch == 6


def test_a_front_chooses_no_epoch_once_its_time_has_passed() -> None:
    front = Front()
    front.lead(Lead(leads=True, epoch=4, until=103.0))
    front.listed("a")
    call = front.ask()
    front.now = 103.0
    front.beat("a", 5, "next", 0.1)
    assert told_lead(front.told("a")) == []
    assert front.machine.epoch == 0
    assert isinstance(front.answers[call], PoolUnreachable)
    front.lead(Lead(leads=True, epoch=4, until=113.0))
    assert front.machine.epoch == 6
    assert front.waits(front.ask())


def test_who_leads_no_more_sends_on_what_waits_for_a_place() -> None:
    front = Front("a", lead=leads(1))
    waiting = front.ask()
    front.lead(FOLLOWS)
    assert front.answers[waiting] == front.answers[front.ask()] == cmd.OfLeader()
    assert front.machine.epoch == 0


def test_a_front_that_follows_another_has_no_flaw() -> None:
    front = Front("a", lead=Lead(leads=True, epoch=1, until=103.0))
    front.lead(Lead(leads=False, epoch=2, address="leader:1", until=MAY_NOT_PLACE))
    assert front.machine.flaw() is None


def test_who_leads_anew_asks_anew_for_what_waits() -> None:
    """Not with an epoch that is not chosen yet: it might be that of another front."""
    front = Front("a", "b", lead=leads(1))
    front.listed("a")
    call = front.ask()
    # Another one is added, which was a member before.
    front.feed(ev.MembersListed({"a": "a:1", "b": "b:2"}))
    front.beat("a", 2, "another")
    front.lead(leads(3))
    assert front.machine.epoch == 0
    front.offer(a=FITS)
    assert front.waits(call)
    front.told("b")
    front.acknowledge("a", "b")
    front.offer(a=FITS)
    assert front.seat(call).epoch == 3


def test_where_a_model_was_placed_and_not_seen_is_forgotten_when_the_leader_changes() -> None:
    front = Front("a", "b", lead=leads(1))
    front.place("a")
    front.lead(FOLLOWS)
    assert front.answers[front.ask()] == cmd.OfLeader()
    front.lead(leads(3))
    front.acknowledge()
    call = front.ask()
    front.offer(a=WAITS, b=FITS)
    assert front.host_of(call) == "b"


def test_a_follower_starts_nothing_where_a_server_was() -> None:
    front = Front("a", "b", lead=leads(1))
    front.place("a")
    front.changed(server("a"))
    front.lead(FOLLOWS)
    assert front.host_of(front.ask()) == "a"
    front.changed(server("a"), removed=True)
    assert front.answers[front.ask()] == cmd.OfLeader()


def test_a_follower_sends_with_the_highest_epoch_it_knows() -> None:
    front = Front("a", "b", lead=FOLLOWS)
    front.changed(server("a"))
    assert front.seat(front.ask()).epoch == 2
    front.beat("b", 5, "leader", 0.1)
    assert front.seat(front.ask()).epoch == 5
    assert told_lead(front.beat("b", 5, "leader", 0.1)) == []


def test_without_an_engine_a_front_yields_to_one_that_began_later() -> None:
    front = Front("a", "b")
    front.changed(server("a"))
    waiting = front.ask("n")
    front.pass_time(10.0)
    assert told_lead(front.beat("a", 2, "rival", 0.1)) == []
    error = front.answers[waiting]
    assert isinstance(error, PoolUnreachable)

    assert isinstance(front.answers[front.ask("n")], PoolUnreachable)
    # Also of a model that is READY: its member would refuse the call.
    assert isinstance(front.answers[front.ask()], PoolUnreachable)
    assert front.machine.epoch == 0
    # Nor does it evict anything.
    front.changed(server("b"))
    assert not [one for one in front.commands if isinstance(one, cmd.EvictCopy)]


def test_without_an_engine_a_front_leads_again_once_the_other_is_silent() -> None:
    front = Front("a", "b")
    front.pass_time(10.0)
    front.beat("a", 2, "rival", 0.1)
    front.pass_time(LOST_AFTER_S)
    assert told_lead(front.beat("a", 2, "rival", LOST_AFTER_S + 0.1)) == ["a", "b", "a"]
    assert front.machine.epoch == 3


def test_an_old_word_of_one_member_does_not_outdo_a_new_one_of_another() -> None:
    front = Front("a", "b")
    front.pass_time(10.0)
    front.beat("a", 2, "rival", 0.1)
    assert told_lead(front.beat("b", 2, "rival", 5.0)) == []
    assert front.machine.epoch == 0


def test_a_front_leads_again_when_the_only_member_that_the_other_reached_is_gone() -> None:
    front = Front("a", "b", "c")
    front.pass_time(10.0)
    front.beat("a", 2, "rival", 0.1)
    front.lose_sight("a")
    front.pass_time(LOST_AFTER_S + 0.1)
    front.beat("b", 1, NAME, 0.1)
    assert front.machine.epoch == 3


def test_the_epoch_never_falls_when_the_members_that_have_seen_a_rival_are_taken_out() -> None:
    front = Front("a", "b", lead=Lead(leads=True))
    front.beat("a", 4, "earlier", 200.0)
    front.acknowledge()
    assert front.machine.epoch == 5
    front.pass_time(10.0)
    front.beat("a", 5, "rival", 0.1)
    front.listed("b")
    front.pass_time(LOST_AFTER_S + 0.1)
    assert told_lead(front.beat("b", 5, NAME, 0.1)) == []
    assert front.machine.epoch == 5
    front.ask()
    assert front.asked().hosts == ("b",)


def test_a_front_rises_above_an_epoch_of_another_that_it_has_brought_to_a_member_itself() -> None:
    """A follower's call does: the member takes it for the leader until it hears the leader."""
    front = Front("a", lead=FOLLOWS)
    front.beat("a", 6, NAME, 0.1)
    front.lead(leads(1))
    assert front.machine.epoch == 7
    # Or it comes only then.
    assert told_lead(front.beat("a", 9, NAME, 0.1)) == ["a", "a"]
    assert front.machine.epoch == 10
    front.acknowledge()
    front.ask()
    assert front.asked().hosts == ("a",)


def test_an_epoch_that_no_member_obeys_takes_none_but_its_own_member_out_of_the_fleet() -> None:
    front = Front("a", "b", lead=leads(3))
    assert told_lead(front.beat("b", MAX_EPOCH, "broken", 0.1)) == []
    front.beat("a", 4, "earlier", 0.1)
    assert front.machine.epoch == 5
    front.acknowledge("a")
    front.ask()
    front.pass_time(ASK_AGAIN_S)
    assert front.asked().hosts == ("a",)
    front.lead(FOLLOWS)
    assert front.machine.followed_epoch == 5


def test_a_front_that_begins_yields_to_none_that_was_there_before() -> None:
    front = Front()
    front.lead(Lead(leads=True))
    front.listed("a")
    front.beat("a", 5, "earlier", 0.1)
    front.told("a")
    assert front.machine.epoch == 6
    # The member answers once more before it hears of it.
    assert told_lead(front.beat("a", 5, "earlier", 0.2)) == ["a"]
    assert front.machine.epoch == 6


def test_with_an_engine_no_other_front_is_a_rival() -> None:
    front = Front("a", lead=leads(3))
    front.pass_time(10.0)
    front.beat("a", 4, "paused", 0.1)
    assert front.machine.epoch == 5
    assert front.waits(front.ask())


def test_a_lost_member_has_to_hear_again_who_leads() -> None:
    front = Front("a", "b", "c")
    front.lose_sight("a")
    front.pass_time(LOST_AFTER_S)
    front.told("a")
    call = front.ask()
    assert front.waits(call)
    front.feed(ev.SeatLeft(call))
    assert [one.acknowledged for one in front.machine.members] == [-1, 1, 1]
