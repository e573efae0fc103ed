package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import poolservice.v1.EnsureRequest;
import poolservice.v1.PoolServiceGrpc;

/** Makes a model ready and prints its endpoint, or the reason why it is not. */
public final class Ensure {
  private static final String ADDRESS =
      Optional.ofNullable(System.getenv("POOL_SERVICE_ADDRESS")).orElse("127.0.0.1:50051");

  public static void main(String[] arguments) throws InvalidProtocolBufferException {
    if (arguments.length != 1) {
      System.err.println("usage: ensure MODEL");
      System.exit(2);
    }
    ManagedChannel channel =
        Grpc.newChannelBuilder(ADDRESS, InsecureChannelCredentials.create()).build();
    try {
      EnsureRequest request = EnsureRequest.newBuilder().setModel(arguments[0]).build();
      var pool = PoolServiceGrpc.newBlockingStub(channel).withDeadlineAfter(5, TimeUnit.MINUTES);
      System.out.println(pool.ensure(request).getServer().getEndpoint());
    } catch (StatusRuntimeException error) {
      System.err.println(reason(error) + ": " + error.getStatus().getDescription());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  /** The reason of the ErrorInfo, or the number of the gRPC code where there is none. */
  private static String reason(StatusRuntimeException error)
      throws InvalidProtocolBufferException {
    Status status = StatusProto.fromThrowable(error);
    for (Any detail : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        return detail.unpack(ErrorInfo.class).getReason();
      }
    }
    return "code " + error.getStatus().getCode().value();
  }
}
