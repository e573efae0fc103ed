// Makes a model ready and prints its endpoint, or the reason why it is not.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "pool_service/v1/pool_service.grpc.pb.h"

namespace {

std::string address() {
  const char* set = std::getenv("POOL_SERVICE_ADDRESS");
  return set != nullptr ? set : "127.0.0.1:50051";
}

// The reason of the ErrorInfo, or the number of the gRPC code where there is none.
std::string reason_of(const grpc::Status& failure) {
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  status.ParseFromString(failure.error_details());
  for (const auto& detail : status.details()) {
    if (detail.UnpackTo(&info)) return info.reason();
  }
  return "code " + std::to_string(failure.error_code());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: ensure MODEL\n";
    return 2;
  }
  const auto channel = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  const auto pool = pool_service::v1::PoolService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(5));
  pool_service::v1::EnsureRequest request;
  request.set_model(arguments[1]);
  pool_service::v1::EnsureResponse response;
  const grpc::Status status = pool->Ensure(&context, request, &response);
  if (!status.ok()) {
    std::cerr << reason_of(status) << ": " << status.error_message() << "\n";
    return 1;
  }
  std::cout << response.server().endpoint() << "\n";
}
