// @generated
/// Generated server implementations.
pub mod pool_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with PoolServiceServer.
    #[async_trait]
    pub trait PoolService: std::marker::Send + std::marker::Sync + 'static {
        async fn ensure(
            &self,
            request: tonic::Request<::pool_service_client::v1::EnsureRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::EnsureResponse>,
            tonic::Status,
        >;
        async fn evict(
            &self,
            request: tonic::Request<::pool_service_client::v1::EvictRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::EvictResponse>,
            tonic::Status,
        >;
        async fn list(
            &self,
            request: tonic::Request<::pool_service_client::v1::ListRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::ListResponse>,
            tonic::Status,
        >;
        async fn get(
            &self,
            request: tonic::Request<::pool_service_client::v1::GetRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::GetResponse>,
            tonic::Status,
        >;
        /// Server streaming response type for the Watch method.
        type WatchStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<
                    ::pool_service_client::v1::WatchResponse,
                    tonic::Status,
                >,
            >
            + std::marker::Send
            + 'static;
        async fn watch(
            &self,
            request: tonic::Request<::pool_service_client::v1::WatchRequest>,
        ) -> std::result::Result<tonic::Response<Self::WatchStream>, tonic::Status>;
        /// Server streaming response type for the Hold method.
        type HoldStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<
                    ::pool_service_client::v1::HoldResponse,
                    tonic::Status,
                >,
            >
            + std::marker::Send
            + 'static;
        async fn hold(
            &self,
            request: tonic::Request<::pool_service_client::v1::HoldRequest>,
        ) -> std::result::Result<tonic::Response<Self::HoldStream>, tonic::Status>;
        /// Server streaming response type for the TailLogs method.
        type TailLogsStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<
                    ::pool_service_client::v1::TailLogsResponse,
                    tonic::Status,
                >,
            >
            + std::marker::Send
            + 'static;
        async fn tail_logs(
            &self,
            request: tonic::Request<::pool_service_client::v1::TailLogsRequest>,
        ) -> std::result::Result<tonic::Response<Self::TailLogsStream>, tonic::Status>;
        async fn list_models(
            &self,
            request: tonic::Request<::pool_service_client::v1::ListModelsRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::ListModelsResponse>,
            tonic::Status,
        >;
        /// Server streaming response type for the Pull method.
        type PullStream: tonic::codegen::tokio_stream::Stream<
                Item = std::result::Result<
                    ::pool_service_client::v1::PullResponse,
                    tonic::Status,
                >,
            >
            + std::marker::Send
            + 'static;
        async fn pull(
            &self,
            request: tonic::Request<::pool_service_client::v1::PullRequest>,
        ) -> std::result::Result<tonic::Response<Self::PullStream>, tonic::Status>;
        async fn forget(
            &self,
            request: tonic::Request<::pool_service_client::v1::ForgetRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::ForgetResponse>,
            tonic::Status,
        >;
        async fn pin(
            &self,
            request: tonic::Request<::pool_service_client::v1::PinRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::PinResponse>,
            tonic::Status,
        >;
        async fn reload(
            &self,
            request: tonic::Request<::pool_service_client::v1::ReloadRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::ReloadResponse>,
            tonic::Status,
        >;
        async fn describe(
            &self,
            request: tonic::Request<::pool_service_client::v1::DescribeRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::DescribeResponse>,
            tonic::Status,
        >;
    }
    #[derive(Debug)]
    pub struct PoolServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> PoolServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for PoolServiceServer<T>
    where
        T: PoolService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/pool_service.v1.PoolService/Ensure" => {
                    #[allow(non_camel_case_types)]
                    struct EnsureSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::EnsureRequest,
                    > for EnsureSvc<T> {
                        type Response = ::pool_service_client::v1::EnsureResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::EnsureRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::ensure(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = EnsureSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Evict" => {
                    #[allow(non_camel_case_types)]
                    struct EvictSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::EvictRequest,
                    > for EvictSvc<T> {
                        type Response = ::pool_service_client::v1::EvictResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::EvictRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::evict(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = EvictSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/List" => {
                    #[allow(non_camel_case_types)]
                    struct ListSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<::pool_service_client::v1::ListRequest>
                    for ListSvc<T> {
                        type Response = ::pool_service_client::v1::ListResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::ListRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::list(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Get" => {
                    #[allow(non_camel_case_types)]
                    struct GetSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<::pool_service_client::v1::GetRequest>
                    for GetSvc<T> {
                        type Response = ::pool_service_client::v1::GetResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::GetRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::get(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = GetSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Watch" => {
                    #[allow(non_camel_case_types)]
                    struct WatchSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::ServerStreamingService<
                        ::pool_service_client::v1::WatchRequest,
                    > for WatchSvc<T> {
                        type Response = ::pool_service_client::v1::WatchResponse;
                        type ResponseStream = T::WatchStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::WatchRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::watch(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = WatchSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.server_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Hold" => {
                    #[allow(non_camel_case_types)]
                    struct HoldSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::ServerStreamingService<
                        ::pool_service_client::v1::HoldRequest,
                    > for HoldSvc<T> {
                        type Response = ::pool_service_client::v1::HoldResponse;
                        type ResponseStream = T::HoldStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::HoldRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::hold(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = HoldSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.server_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/TailLogs" => {
                    #[allow(non_camel_case_types)]
                    struct TailLogsSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::ServerStreamingService<
                        ::pool_service_client::v1::TailLogsRequest,
                    > for TailLogsSvc<T> {
                        type Response = ::pool_service_client::v1::TailLogsResponse;
                        type ResponseStream = T::TailLogsStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::TailLogsRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::tail_logs(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = TailLogsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.server_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/ListModels" => {
                    #[allow(non_camel_case_types)]
                    struct ListModelsSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::ListModelsRequest,
                    > for ListModelsSvc<T> {
                        type Response = ::pool_service_client::v1::ListModelsResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::ListModelsRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::list_models(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ListModelsSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Pull" => {
                    #[allow(non_camel_case_types)]
                    struct PullSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::ServerStreamingService<
                        ::pool_service_client::v1::PullRequest,
                    > for PullSvc<T> {
                        type Response = ::pool_service_client::v1::PullResponse;
                        type ResponseStream = T::PullStream;
                        type Future = BoxFuture<
                            tonic::Response<Self::ResponseStream>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::PullRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::pull(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = PullSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.server_streaming(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Forget" => {
                    #[allow(non_camel_case_types)]
                    struct ForgetSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::ForgetRequest,
                    > for ForgetSvc<T> {
                        type Response = ::pool_service_client::v1::ForgetResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::ForgetRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::forget(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ForgetSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Pin" => {
                    #[allow(non_camel_case_types)]
                    struct PinSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<::pool_service_client::v1::PinRequest>
                    for PinSvc<T> {
                        type Response = ::pool_service_client::v1::PinResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::PinRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::pin(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = PinSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Reload" => {
                    #[allow(non_camel_case_types)]
                    struct ReloadSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::ReloadRequest,
                    > for ReloadSvc<T> {
                        type Response = ::pool_service_client::v1::ReloadResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::ReloadRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::reload(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = ReloadSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.PoolService/Describe" => {
                    #[allow(non_camel_case_types)]
                    struct DescribeSvc<T: PoolService>(pub Arc<T>);
                    impl<
                        T: PoolService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::DescribeRequest,
                    > for DescribeSvc<T> {
                        type Response = ::pool_service_client::v1::DescribeResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::DescribeRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as PoolService>::describe(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = DescribeSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for PoolServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "pool_service.v1.PoolService";
    impl<T> tonic::server::NamedService for PoolServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
/// Generated server implementations.
pub mod fleet_member_service_server {
    #![allow(
        unused_variables,
        dead_code,
        missing_docs,
        clippy::wildcard_imports,
        clippy::let_unit_value,
    )]
    use tonic::codegen::*;
    /// Generated trait containing gRPC methods that should be implemented for use with FleetMemberServiceServer.
    #[async_trait]
    pub trait FleetMemberService: std::marker::Send + std::marker::Sync + 'static {
        async fn beat(
            &self,
            request: tonic::Request<::pool_service_client::v1::BeatRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::BeatResponse>,
            tonic::Status,
        >;
        async fn offer(
            &self,
            request: tonic::Request<::pool_service_client::v1::OfferRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::OfferResponse>,
            tonic::Status,
        >;
        async fn end_hold(
            &self,
            request: tonic::Request<::pool_service_client::v1::EndHoldRequest>,
        ) -> std::result::Result<
            tonic::Response<::pool_service_client::v1::EndHoldResponse>,
            tonic::Status,
        >;
    }
    #[derive(Debug)]
    pub struct FleetMemberServiceServer<T> {
        inner: Arc<T>,
        accept_compression_encodings: EnabledCompressionEncodings,
        send_compression_encodings: EnabledCompressionEncodings,
        max_decoding_message_size: Option<usize>,
        max_encoding_message_size: Option<usize>,
    }
    impl<T> FleetMemberServiceServer<T> {
        pub fn new(inner: T) -> Self {
            Self::from_arc(Arc::new(inner))
        }
        pub fn from_arc(inner: Arc<T>) -> Self {
            Self {
                inner,
                accept_compression_encodings: Default::default(),
                send_compression_encodings: Default::default(),
                max_decoding_message_size: None,
                max_encoding_message_size: None,
            }
        }
        pub fn with_interceptor<F>(
            inner: T,
            interceptor: F,
        ) -> InterceptedService<Self, F>
        where
            F: tonic::service::Interceptor,
        {
            InterceptedService::new(Self::new(inner), interceptor)
        }
        /// Enable decompressing requests with the given encoding.
        #[must_use]
        pub fn accept_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.accept_compression_encodings.enable(encoding);
            self
        }
        /// Compress responses with the given encoding, if the client supports it.
        #[must_use]
        pub fn send_compressed(mut self, encoding: CompressionEncoding) -> Self {
            self.send_compression_encodings.enable(encoding);
            self
        }
        /// Limits the maximum size of a decoded message.
        ///
        /// Default: `4MB`
        #[must_use]
        pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
            self.max_decoding_message_size = Some(limit);
            self
        }
        /// Limits the maximum size of an encoded message.
        ///
        /// Default: `usize::MAX`
        #[must_use]
        pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
            self.max_encoding_message_size = Some(limit);
            self
        }
    }
    impl<T, B> tonic::codegen::Service<http::Request<B>> for FleetMemberServiceServer<T>
    where
        T: FleetMemberService,
        B: Body + std::marker::Send + 'static,
        B::Error: Into<StdError> + std::marker::Send + 'static,
    {
        type Response = http::Response<tonic::body::Body>;
        type Error = std::convert::Infallible;
        type Future = BoxFuture<Self::Response, Self::Error>;
        fn poll_ready(
            &mut self,
            _cx: &mut Context<'_>,
        ) -> Poll<std::result::Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, req: http::Request<B>) -> Self::Future {
            match req.uri().path() {
                "/pool_service.v1.FleetMemberService/Beat" => {
                    #[allow(non_camel_case_types)]
                    struct BeatSvc<T: FleetMemberService>(pub Arc<T>);
                    impl<
                        T: FleetMemberService,
                    > tonic::server::UnaryService<::pool_service_client::v1::BeatRequest>
                    for BeatSvc<T> {
                        type Response = ::pool_service_client::v1::BeatResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::BeatRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as FleetMemberService>::beat(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = BeatSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.FleetMemberService/Offer" => {
                    #[allow(non_camel_case_types)]
                    struct OfferSvc<T: FleetMemberService>(pub Arc<T>);
                    impl<
                        T: FleetMemberService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::OfferRequest,
                    > for OfferSvc<T> {
                        type Response = ::pool_service_client::v1::OfferResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::OfferRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as FleetMemberService>::offer(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = OfferSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                "/pool_service.v1.FleetMemberService/EndHold" => {
                    #[allow(non_camel_case_types)]
                    struct EndHoldSvc<T: FleetMemberService>(pub Arc<T>);
                    impl<
                        T: FleetMemberService,
                    > tonic::server::UnaryService<
                        ::pool_service_client::v1::EndHoldRequest,
                    > for EndHoldSvc<T> {
                        type Response = ::pool_service_client::v1::EndHoldResponse;
                        type Future = BoxFuture<
                            tonic::Response<Self::Response>,
                            tonic::Status,
                        >;
                        fn call(
                            &mut self,
                            request: tonic::Request<
                                ::pool_service_client::v1::EndHoldRequest,
                            >,
                        ) -> Self::Future {
                            let inner = Arc::clone(&self.0);
                            let fut = async move {
                                <T as FleetMemberService>::end_hold(&inner, request).await
                            };
                            Box::pin(fut)
                        }
                    }
                    let accept_compression_encodings = self.accept_compression_encodings;
                    let send_compression_encodings = self.send_compression_encodings;
                    let max_decoding_message_size = self.max_decoding_message_size;
                    let max_encoding_message_size = self.max_encoding_message_size;
                    let inner = self.inner.clone();
                    let fut = async move {
                        let method = EndHoldSvc(inner);
                        let codec = tonic_prost::ProstCodec::default();
                        let mut grpc = tonic::server::Grpc::new(codec)
                            .apply_compression_config(
                                accept_compression_encodings,
                                send_compression_encodings,
                            )
                            .apply_max_message_size_config(
                                max_decoding_message_size,
                                max_encoding_message_size,
                            );
                        let res = grpc.unary(method, req).await;
                        Ok(res)
                    };
                    Box::pin(fut)
                }
                _ => {
                    Box::pin(async move {
                        let mut response = http::Response::new(
                            tonic::body::Body::default(),
                        );
                        let headers = response.headers_mut();
                        headers
                            .insert(
                                tonic::Status::GRPC_STATUS,
                                (tonic::Code::Unimplemented as i32).into(),
                            );
                        headers
                            .insert(
                                http::header::CONTENT_TYPE,
                                tonic::metadata::GRPC_CONTENT_TYPE,
                            );
                        Ok(response)
                    })
                }
            }
        }
    }
    impl<T> Clone for FleetMemberServiceServer<T> {
        fn clone(&self) -> Self {
            let inner = self.inner.clone();
            Self {
                inner,
                accept_compression_encodings: self.accept_compression_encodings,
                send_compression_encodings: self.send_compression_encodings,
                max_decoding_message_size: self.max_decoding_message_size,
                max_encoding_message_size: self.max_encoding_message_size,
            }
        }
    }
    /// Generated gRPC service name
    pub const SERVICE_NAME: &str = "pool_service.v1.FleetMemberService";
    impl<T> tonic::server::NamedService for FleetMemberServiceServer<T> {
        const NAME: &'static str = SERVICE_NAME;
    }
}
