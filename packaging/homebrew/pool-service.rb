# For a tap of your own; docs/how-to/install.md says how. Not yet run on a Mac. A release fills in
# its address and checksum; `brew install --HEAD` needs only the address of the repository.
class PoolService < Formula
  include Language::Python::Virtualenv

  desc "Control plane that owns a pool of model servers, one per model, on one machine"
  homepage "https://github.com/OWNER/NAME"
  url "https://github.com/OWNER/NAME/archive/refs/tags/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"
  head "https://github.com/OWNER/NAME.git", branch: "main"

  depends_on "uv" => :build
  depends_on "python@3.13"

  on_macos do
    depends_on arch: :arm64
    depends_on macos: :sonoma
  end

  def install
    # Require the client by version, and not by its path during the build.
    ENV["POOL_SERVICE_DIST"] = "1"
    virtualenv_create(libexec, "python3.13")
    pip = %W[uv pip install --python #{libexec}/bin/python --no-deps]
    pinned = %w[--require-hashes --only-binary :all: --requirement]
    system(*pip, *pinned, "packaging/requirements/service.txt")
    # What builds the service is no part of its environment.
    system(*pip, *pinned, "packaging/requirements/build.txt", "--target", buildpath/"build-packages")
    with_env(PYTHONPATH: buildpath/"build-packages") do
      system(*pip, "--no-index", "--no-build-isolation", "./clients/python", ".")
    end
    bin.install_symlink libexec/"bin/pool-service"
    man1.install libexec.glob("share/man/man1/*.1")
    generate_completions_from_executable(bin/"pool-service", shell_parameter_format: :click)
  end

  def caveats
    <<~EOS
      vllm-mlx serves the models. To install it into its own environment:
        pool-service runtime install
    EOS
  end

  # Servers and their guard have their own sessions, so they outlive a restart of the service.
  service do
    run [opt_bin/"pool-service", "serve", "--keep-servers"]
    keep_alive successful_exit: false
    throttle_interval 5
    stop_timeout 330
    process_type :interactive
    environment_variables PATH: std_service_path_env
    log_path var/"log/pool-service.log"
    error_log_path var/"log/pool-service.log"
  end

  test do
    assert_equal "pool-service #{version}\n", shell_output("#{bin}/pool-service --version")
    assert_match "cannot reach", shell_output("#{bin}/pool-service list --address unix:#{testpath}/none 2>&1", 3)
  end
end
